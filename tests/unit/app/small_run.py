"""The smallest run there is: a net of width 8 that tells rendered pictures apart."""

SMALL_RUN = [
    *("experiment=quickstart_classification", "backbone.width=8", "precision=32-true"),
    *("trainer.accelerator=cpu", "trainer.max_epochs=1", "trainer.enable_model_summary=false"),
    *("data.scenes.train.length=16", "data.scenes.val.length=8", "data.scenes.test.length=8"),
    *("data.scenes.batch_size=8", "data.scenes.eval_batch_size=8", "data.scenes.num_workers=0"),
    *(f"data.scenes.{split}.size=[64,64]" for split in ("train", "val", "test")),
    *(f"callbacks.{drawing}=null" for drawing in ("pictures", "curves", "confusion", "progress")),
]
