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
        gpu=gpu_of("probe"),
        slurm_partition=lambda wildcards: partition_of(gpu_of("probe")(wildcards)),
        mem_mb=memory_of("probe"),
        runtime=MINUTES,
    params:
        scale=S,
        digest=digest_of_run,
        code=code_of_probe,
    message:
        "looking into {wildcards.run}"
    shell:
        "[ {resources.gpu} -gt 0 ] || export CUDA_VISIBLE_DEVICES=; "
        "python -m rarl probe --scale {params.scale} --digest {params.digest} --code {params.code}"
        " {wildcards.run} > {log} 2>&1"
