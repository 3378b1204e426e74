"""Many more small runs, for the options that `configurations` leaves at their values of conf/."""

_POOL = ("generator=uniform", "generator.num_negatives=16", "trainer.chunk_size=16")
_ALL = ("generator=uniform", "generator.num_negatives=1")
_KBGAN = ("generator=kbgan", "generator.pool_size=8", "generator.dim=8")
_ALONE = ("pretrain.generator.epochs=0", "pretrain.discriminator.epochs=0")
_SCORING = ("transh", "transr", "transd", "distmult", "simple", "rescal", "rotate", "quate", "tucker", "pairre", "hake")
_CONVE = ("discriminator=conve", "discriminator.scoring.height=2", "discriminator.scoring.num_filters=4")
_ENCODED = ("discriminator.max_norm=null", "discriminator=distmult", "loss=softmax")

MATRIX: dict[str, tuple[str, ...]] = {
    "kbgan, pretrained": (*_KBGAN, "pretrain.generator.epochs=1", "pretrain.discriminator.epochs=1"),
    "kbgan, exact, entropy, mask": (
        *(*_KBGAN, *_ALONE, "generator.estimator=exact", "generator.entropy_weight=0.1", "generator.mask_known=true"),
    ),
    "kbgan, baseline per query": (
        *(*_KBGAN, *_ALONE, "baseline@generator.baseline=per_query", "generator.normalise_reward=true"),
    ),
    "kbgan, running mean": (*_KBGAN, *_ALONE, "baseline@generator.baseline=running_mean", "reward=band"),
    "kbgan, leave one out": (
        *(*_KBGAN, *_ALONE, "baseline@generator.baseline=leave_one_out", "generator.num_negatives=4"),
    ),
    "kbgan, distinct draws": (*_KBGAN, *_ALONE, "generator.replacement=false", "generator.num_negatives=4"),
    "kbgan, quality": (*_KBGAN, *_ALONE, "quality=sampled"),
    "nscaching, top, lazy": (
        *("generator=nscaching", "generator.select=top", "generator.refresh_epochs=2", "loss=softmax"),
    ),
    "whole table softmax": ("generator=whole_table_softmax", "generator.dim=8", *_ALONE, "loss=self_adversarial"),
    "near miss": ("generator=near_miss", "generator.list_size=20", *_ALONE, "loss=self_adversarial"),
    "nearest": ("generator=nearest", "generator.list_size=20", "pretrain.discriminator.epochs=1"),
    "k hop": ("generator=k_hop",),
    "k hop, walks": ("generator=k_hop", "generator.pool=walks"),
    "influence, damped": ("generator=influence", "generator.damping=0.1", "generator.held_out=32"),
    "curriculum by margin": ("generator=curriculum", "generator.progress=margin", "generator.hard.pool_size=8"),
    "diverse": ("generator=diverse",),
    "hasa, bank": ("generator=hasa", "loss=hasa", "generator.bank_size=200"),
    "in batch, infonce": ("generator=in_batch", "trainer.chunk_size=16", "loss=infonce", "loss.log_q=true"),
    "typed, nce": ("generator=typed", "loss=nce"),
    "degree, sampled softmax": ("generator=degree", "loss=sampled_softmax"),
    "cardinality, drawn again": ("generator=cardinality", "generator.redraw_known=true"),
    "bernoulli, mask": ("generator=bernoulli", "generator.mask_known=true"),
    "rows in bfloat16": (
        *(*_POOL, "dtype=bfloat16", "discriminator=complex", "loss=softmax", "optimizer=rowwise_adagrad"),
        "discriminator.max_norm=2.0",
    ),
    "rows in bfloat16, kbgan": (
        *(*_KBGAN, *_ALONE, "dtype=bfloat16", "rounding=nearest", "optimizer=lazy_adam"),
        "optimizer@generator.optimizer=lazy_adam",
    ),
    "rows in bfloat16, all entities": (
        *(*_ALL, "dtype=bfloat16", "loss=one_vs_all", "discriminator=complex", "optimizer=rowwise_adagrad"),
    ),
    "transe l2": (*_POOL, "discriminator.scoring.norm=2", "loss=log_sigmoid"),
    "infonce, learned temperature": (*_POOL, "loss=infonce", "loss.learn_temperature=true"),
    "k_vs_all, bce": (*_ALL, "loss=k_vs_all", "loss.loss=bce", "discriminator=complex", "loss.smoothing=0.1"),
    "conve, shared pool": (*_POOL, *_CONVE),
    "terms, subsampling, reciprocal": (
        *(*_POOL, "discriminator=complex", "term=[n3,l2,relation_prediction]", "trainer.subsampling=true"),
        *("discriminator.reciprocal=true", "optimizer=lazy_adam", "schedule=cosine", "average=ema"),
    ),
    "quality, float64, clipped": (*_POOL, "quality=sampled", "dtype=float64", "optimizer.clip_norm=0.01"),
    "dropout": (*_POOL, "discriminator.entity_dropout=0.1", "discriminator.relation_dropout=0.1"),
    "compgcn": (*_POOL, *_ENCODED, "encoder=compgcn"),
    "rgcn": (*_POOL, *_ENCODED, "encoder=rgcn"),
    "attention": (*_POOL, *_ENCODED, "encoder=attention"),
    "linear": (*_POOL, *_ENCODED, "encoder=linear"),
    "compgcn, sampled": (*_POOL, *_ENCODED, "encoder=compgcn", "encoder.fanout=[5]", "optimizer=lazy_adam"),
    **{
        f"{name}, shared pool": (*_POOL, f"discriminator={name}", "optimizer=rowwise_adagrad", "loss=self_adversarial")
        for name in _SCORING
    },
    **{
        f"{name}, own negatives": (
            *("generator=uniform", "generator.num_negatives=8", f"discriminator={name}", "trainer.sides=both"),
        )
        for name in ("complex", *_SCORING)
        if name != "tucker"
    },
}
