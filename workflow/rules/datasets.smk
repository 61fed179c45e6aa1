# One folder of trajectories per task and source: data/{scale}/{environment}/{source}/{task}/

for KIND, FILES in DATASET_KINDS.items():

    rule:
        name:
            f"make_{'_'.join(Path(KIND).parts)}_dataset"
        output:
            [f"data/{S}/{KIND}/{{task}}/{name}" for name in FILES],
        log:
            f"logs/{S}/datasets/{KIND}/{{task}}.log",
        benchmark:
            f"benchmarks/{S}/datasets/{KIND}/{{task}}.tsv"
        priority: 40
        conda:
            "../envs/rarl.yaml"
        resources:
            runtime=MINUTES,
        params:
            scale=S,
            kind=KIND,
            digest=digest_of_dataset(KIND),
            code=code_of_dataset(KIND),
        message:
            f"dataset {KIND}/{{wildcards.task}}"
        shell:
            "python -m rarl datasets make --scale {params.scale} --digest {params.digest}"
            " --code {params.code} {params.kind}/{wildcards.task} > {log} 2>&1"
