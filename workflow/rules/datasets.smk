# One folder of trajectories per task and source: data/{scale}/{environment}/{source}/{task}/


rule make_planner_dataset:
    output:
        [f"data/{S}/gridroboman/planner/{{task}}/{name}" for name in DATASET_FILES["planner"]],
    log:
        f"logs/{S}/datasets/gridroboman/planner/{{task}}.log",
    benchmark:
        f"benchmarks/{S}/datasets/gridroboman/planner/{{task}}.tsv"
    priority: 40
    conda:
        "../envs/rarl.yaml"
    resources:
        runtime=MINUTES,
    params:
        scale=S,
        digest=digest_of_dataset("gridroboman/planner"),
        code=code_of_dataset("gridroboman/planner"),
    message:
        "dataset gridroboman/planner/{wildcards.task}"
    shell:
        "python -m rarl datasets make --scale {params.scale} --digest {params.digest}"
        " --code {params.code} gridroboman/planner/{wildcards.task} > {log} 2>&1"


rule make_dqn_dataset:
    output:
        [f"data/{S}/gridroboman/dqn/{{task}}/{name}" for name in DATASET_FILES["dqn"]],
    log:
        f"logs/{S}/datasets/gridroboman/dqn/{{task}}.log",
    benchmark:
        f"benchmarks/{S}/datasets/gridroboman/dqn/{{task}}.tsv"
    priority: 10
    conda:
        "../envs/rarl.yaml"
    resources:
        runtime=MINUTES,
    params:
        scale=S,
        digest=digest_of_dataset("gridroboman/dqn"),
        code=code_of_dataset("gridroboman/dqn"),
    message:
        "dataset gridroboman/dqn/{wildcards.task}"
    shell:
        "python -m rarl datasets make --scale {params.scale} --digest {params.digest}"
        " --code {params.code} gridroboman/dqn/{wildcards.task} > {log} 2>&1"


rule make_bot_dataset:
    output:
        [f"data/{S}/babyai/bot/{{task}}/{name}" for name in DATASET_FILES["bot"]],
    log:
        f"logs/{S}/datasets/babyai/bot/{{task}}.log",
    benchmark:
        f"benchmarks/{S}/datasets/babyai/bot/{{task}}.tsv"
    priority: 40
    conda:
        "../envs/rarl.yaml"
    resources:
        runtime=MINUTES,
    params:
        scale=S,
        digest=digest_of_dataset("babyai/bot"),
        code=code_of_dataset("babyai/bot"),
    message:
        "dataset babyai/bot/{wildcards.task}"
    shell:
        "python -m rarl datasets make --scale {params.scale} --digest {params.digest}"
        " --code {params.code} babyai/bot/{wildcards.task} > {log} 2>&1"


rule make_rdqn_dataset:
    output:
        [f"data/{S}/babyai/rdqn/{{task}}/{name}" for name in DATASET_FILES["rdqn"]],
    log:
        f"logs/{S}/datasets/babyai/rdqn/{{task}}.log",
    benchmark:
        f"benchmarks/{S}/datasets/babyai/rdqn/{{task}}.tsv"
    priority: 10
    conda:
        "../envs/rarl.yaml"
    resources:
        runtime=MINUTES,
    params:
        scale=S,
        digest=digest_of_dataset("babyai/rdqn"),
        code=code_of_dataset("babyai/rdqn"),
    message:
        "dataset babyai/rdqn/{wildcards.task}"
    shell:
        "python -m rarl datasets make --scale {params.scale} --digest {params.digest}"
        " --code {params.code} babyai/rdqn/{wildcards.task} > {log} 2>&1"
