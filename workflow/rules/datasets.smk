# One folder of trajectories per task and source: data/{scale}/{environment}/{source}/{task}/


def dataset_digest(source):
    return lambda wildcards: SCALE.find_dataset(f"gridroboman/{source}/{wildcards.task}").digest


rule make_planner_dataset:
    output:
        [f"data/{S}/gridroboman/planner/{{task}}/{name}" for name in DATASET_FILES["planner"]],
    log:
        f"logs/{S}/datasets/gridroboman/planner/{{task}}.log",
    benchmark:
        f"benchmarks/{S}/datasets/gridroboman/planner/{{task}}.tsv"
    conda:
        "../envs/rarl.yaml"
    priority: 40
    params:
        scale=S,
        digest=dataset_digest("planner"),
        code=CODE["planner"],
    message:
        "dataset gridroboman/planner/{wildcards.task}"
    shell:
        "python -m rarl datasets make --scale {params.scale} --digest {params.digest}"
        " gridroboman/planner/{wildcards.task} > {log} 2>&1"


rule make_dqn_dataset:
    output:
        [f"data/{S}/gridroboman/dqn/{{task}}/{name}" for name in DATASET_FILES["dqn"]],
    log:
        f"logs/{S}/datasets/gridroboman/dqn/{{task}}.log",
    benchmark:
        f"benchmarks/{S}/datasets/gridroboman/dqn/{{task}}.tsv"
    conda:
        "../envs/rarl.yaml"
    priority: 10
    params:
        scale=S,
        digest=dataset_digest("dqn"),
        code=CODE["dqn"],
    message:
        "dataset gridroboman/dqn/{wildcards.task}"
    shell:
        "python -m rarl datasets make --scale {params.scale} --digest {params.digest}"
        " gridroboman/dqn/{wildcards.task} > {log} 2>&1"
