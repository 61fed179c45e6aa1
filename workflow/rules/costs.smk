# What each variant costs beside its base, and how fast environments are, measured in one run: results/{scale}/costs.csv and
# environment-speed.csv (small, in git).


rule measure_costs:
    input:
        plan=plan_for(f"results/{S}/costs.csv", digest=cost_digest(SCALE), code=CODE["costs"]),
        manifests=lambda _: manifests_of(f"results/{S}/costs.csv", COST_RUNS),
    output:
        costs=f"results/{S}/costs.csv",
        speeds=f"results/{S}/environment-speed.csv",
    log:
        f"logs/{S}/costs.log",
    benchmark:
        f"benchmarks/{S}/costs.tsv"
    priority: -10 if SCALE.settings.allows_verdicts else 10  # it needs all cores: last
    conda:
        "../envs/rarl.yaml"
    threads: cores_to_time
    resources:
        gpu=lambda wildcards: gpu_there(),
        slurm_partition=lambda wildcards: partition_of(gpu_there()),
        mem_mb=lambda wildcards: memory_of_costs(SCALE, gpu_there() > 0),
        runtime=MINUTES,
    params:
        scale=S,
        digest=cost_digest(SCALE),
        code=CODE["costs"],
    message:
        f"what each variant costs: results/{S}/costs.csv"
    shell:
        "[ {resources.gpu} -gt 0 ] || export CUDA_VISIBLE_DEVICES=; "
        "python -m rarl costs --scale {params.scale} --digest {params.digest} --code {params.code}"
        " --output {output.costs} > {log} 2>&1"
