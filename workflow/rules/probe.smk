# Looks into a trained agent: results/{scale}/probes/{run}/ (small, in git).


rule probe_run:
    input:
        manifests=manifests_of,
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
    conda:
        "../envs/rarl.yaml"
    priority: first_look
    threads: lambda wildcards: SCALE.runs[wildcards.run].settings.threads
    resources:
        gpu=GPU,
    params:
        scale=S,
        digest=lambda wildcards: SCALE.runs[wildcards.run].digest,
        code=CODE["probe"],
    message:
        "looking into {wildcards.run}"
    shell:
        "python -m rarl probe --scale {params.scale} {wildcards.run} > {log} 2>&1"
