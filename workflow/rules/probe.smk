# Looks into a trained agent: results/{scale}/probes/{run}/ (small, in git).


rule probe_run:
    input:
        manifests=lambda wildcards: manifests_of(
            f"results/{S}/probes/{wildcards.run}/attention.csv", [SCALE.runs[wildcards.run]]
        ),
        record=rules.train_run.output.record,
        checkpoint=rules.train_run.output.checkpoint,
    output:
        interventions=f"results/{S}/probes/{{run}}/interventions.csv",
        attention=f"results/{S}/probes/{{run}}/attention.csv",
        gallery=f"results/{S}/probes/{{run}}/gallery.json",
    log:
        f"logs/{S}/probe/{{run}}.log",
    benchmark:
        f"benchmarks/{S}/probe/{{run}}.tsv"
    priority: first_look
    conda:
        "../envs/rarl.yaml"
    threads: threads_of_run
    resources:
        gpu=GPU,
    params:
        scale=S,
        digest=digest_of_run,
        code=code_of_run("probe"),
    message:
        "looking into {wildcards.run}"
    shell:
        "python -m rarl probe --scale {params.scale} {wildcards.run} > {log} 2>&1"
