# What an index over keys costs against their number: results/{scale}/index-cost.csv (small, in git).


rule measure_index_cost:
    input:
        plan=plan_for(f"results/{S}/index-cost.csv", digest=INDEX_COST, code=CODE["index-cost"]),
    output:
        f"results/{S}/index-cost.csv",
    log:
        f"logs/{S}/index-cost.log",
    benchmark:
        f"benchmarks/{S}/index-cost.tsv"
    priority: -10 if SCALE.settings.allows_verdicts else 10  # it needs all cores: last
    conda:
        "../envs/rarl.yaml"
    threads: cores_to_time
    resources:
        mem_mb=memory_of_index_cost(index_cost_plan(SCALE)),
        runtime=MINUTES,
    params:
        scale=S,
        digest=INDEX_COST,
        code=CODE["index-cost"],
    message:
        f"what an index costs: results/{S}/index-cost.csv"
    shell:
        "python -m rarl index-cost --scale {params.scale} --digest {params.digest} --code {params.code} > {log} 2>&1"
