# One run: results/{scale}/runs/{run}/ (small, in git) and results/{scale}/checkpoints/{run}/ (DVC).
# A run that was stopped goes on from scratch/{scale}/runs/{run}/, which is no output: Snakemake deletes outputs before a job.


rule train_run:
    input:
        manifests=lambda wildcards: manifests_of(
            f"results/{S}/runs/{wildcards.run}/run.json", [SCALE.runs[wildcards.run]]
        ),
    output:
        record=f"results/{S}/runs/{{run}}/run.json",
        evaluations=f"results/{S}/runs/{{run}}/evaluations.csv",
        training=f"results/{S}/runs/{{run}}/training.csv",
        retrieval=f"results/{S}/runs/{{run}}/retrieval.csv",
        checkpoint=f"results/{S}/checkpoints/{{run}}/checkpoint.pt",
        checksum=f"results/{S}/checkpoints/{{run}}/checkpoint.pt.sha256",
    log:
        f"logs/{S}/train/{{run}}.log",
    benchmark:
        f"benchmarks/{S}/train/{{run}}.tsv"
    priority: first_look
    conda:
        "../envs/rarl.yaml"
    threads: threads_of_run
    resources:
        gpu=gpu_of("train"),
        slurm_partition=lambda wildcards: partition_of(gpu_of("train")(wildcards)),
        mem_mb=memory_of("train"),
        runtime=MINUTES,
    params:
        scale=S,
        digest=digest_of_run,
        code=code_of_training,
    message:
        "training {wildcards.run}"
    shell:
        "[ {resources.gpu} -gt 0 ] || export CUDA_VISIBLE_DEVICES=; "
        "python -m rarl train --scale {params.scale} --digest {params.digest} --code {params.code}"
        " --record-failure {wildcards.run} > {log} 2>&1"
