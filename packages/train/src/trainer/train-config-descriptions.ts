/**
 * @file What each field of a run configuration means: made from the comments of its types by
 * `node tooling/make-config-descriptions.mjs`; change those and run it again.
 */

/** Descriptions by dotted path. */
export const trainConfigDescriptions: { readonly [path: string]: string } = {
  $schema: 'Where the JSON Schema is that an editor checks the file against; kept, and otherwise ignored.',
  schemaVersion: 'Version of this format: 1.',
  name: 'Names the run in messages and files. Default `run`.',
  model:
    "The model's config.json, without `vocab_size` when the tokenizer decides it; or the path of a model folder whose config.json is meant.",
  initFrom:
    "A model folder whose weights the run begins with; null (default) begins at random. `model` may then be left out, and so may `tokenizer`: both are the folder's.",
  data: 'What text a run trains on.',
  'data.training':
    'Text to train on; also split for held-out text unless `heldOut` is given. Default the corpus `sotu`.',
  'data.training.corpus': 'A text that comes with Moebius, by name.',
  'data.training.path': 'A folder, a .txt or .jsonl file, or a glob.',
  'data.training.field': 'Field of .jsonl lines that holds the text. Default `text`.',
  'data.heldOut': 'Held-out text of its own.',
  'data.heldOut.corpus': 'A text that comes with Moebius, by name.',
  'data.heldOut.path': 'A folder, a .txt or .jsonl file, or a glob.',
  'data.heldOut.field': 'Field of .jsonl lines that holds the text. Default `text`.',
  'data.replay': 'Text mixed in, usually what a model was trained on before. It is not measured.',
  'data.replay.source':
    'The text. Documents that its own split (`heldOutFraction`, `splitSeed`) holds out are left out.',
  'data.replay.source.corpus': 'A text that comes with Moebius, by name.',
  'data.replay.source.path': 'A folder, a .txt or .jsonl file, or a glob.',
  'data.replay.source.field': 'Field of .jsonl lines that holds the text. Default `text`.',
  'data.replay.share': 'Share of sequences that come from it, above 0 and below 1. Default 0.25.',
  'data.heldOutFraction': 'Share of documents held out of `training`. Default 0.1.',
  'data.splitSeed': 'Which documents are held out. Default 0.',
  tokenizer: 'A tokenizer to train on the training text (default: 4,096 tokens), or the path of one.',
  'tokenizer.vocabularySize':
    'Entries to make, the 256 bytes and the special tokens included. Default 4,096.',
  'tokenizer.minimumCount': 'Pairs that occur less often are not merged. Default 2.',
  'tokenizer.path': 'A tokenizer.json, or a folder with one.',
  batch: 'How a step is made up.',
  'batch.sequences': 'B: sequences of one micro-batch. Default 8.',
  'batch.length': 'S: tokens of a sequence. Default 256.',
  'batch.accumulation': 'Micro-batches of one step. Default 1.',
  duration:
    'How long: by steps, by tokens, or by time (then the schedule follows the clock, and no two runs are the same).',
  'duration.steps': 'Updates of the parameters.',
  'duration.tokens': 'Tokens trained on, rounded up to whole steps.',
  'duration.minutes': 'Minutes from the first step on, evaluations in between included, preparation not.',
  optimizer: 'The optimizer, parameter groups, and clipping.',
  'optimizer.kind': '`adamw` (default), `sgd`, `muon`, or an optimizer of `plugins` by name.',
  'optimizer.learningRate': 'Peak learning rate. Default 1e-3.',
  'optimizer.beta1': 'AdamW: decay of the mean of gradients. Default 0.9.',
  'optimizer.beta2': 'AdamW: decay of the mean of squared gradients. Default 0.95.',
  'optimizer.epsilon': 'AdamW: added to the divisor of an update. Default 1e-8.',
  'optimizer.momentum':
    'SGD and Muon: share of the last move that is kept. Default 0.9 for SGD, 0.95 for Muon.',
  'optimizer.nesterov':
    "SGD and Muon: Nesterov's momentum, which looks one move ahead. Default false for SGD, true for Muon.",
  'optimizer.decay':
    'SGD: whether decay shrinks the weights (`decoupled`, default) or is added to the gradient (`coupled`, as PyTorch does).',
  'optimizer.scale':
    "Muon: size of a move. `match-rms` (default): as large as AdamW's, for AdamW's learning rates. `original`: Jordan's, for rates near 0.02.",
  'optimizer.adamWFor':
    'Muon: patterns of matrices that AdamW takes all the same. Default: embeddings, output head, routers.',
  'optimizer.settings': 'Settings of an optimizer of `plugins`.',
  'optimizer.weightDecay': 'Decoupled decay. Default 0.1.',
  'optimizer.noDecay':
    'Patterns of parameters that are not decayed: regular expressions on names, or `@norms` and the like. Default `["norm"]`.',
  'optimizer.groups': 'Parameters with a rate, a decay, or no training of their own. Default none.',
  'optimizer.layerDecay':
    'Learning rate of each layer over that of the layer above; the embedding counts as the lowest. Default 1.',
  'optimizer.freeze':
    'Patterns of parameters that stay as they are: no update, no state, no part in the clipped norm. Default none.',
  'optimizer.clipNorm': 'Largest global gradient norm; null does not clip. Default 1.',
  schedule: 'How the learning rate changes.',
  'schedule.kind': 'Shape of the curve. Default cosine. `wsd`: warm-up, stable, decay.',
  'schedule.warmupFraction':
    'Share of the run in which the rate rises; `warmupSteps` wins where given. Default 0.02.',
  'schedule.warmupSteps': 'Steps in which the rate rises.',
  'schedule.floor': 'Last rate over the peak. Default 0.1.',
  'schedule.decayFraction': '`wsd`: share of the run, at its end, in which the rate falls. Default 0.2.',
  losses: 'Losses beside the cross-entropy.',
  'losses.loadBalance': 'Coefficient of the load-balance loss. Default 0.01.',
  'losses.pooling':
    'Where balance is asked for: over all layers at once (Hugging Face), in each layer (default), or in each sequence.',
  'losses.divideByTopK': 'Divide by K, so that perfect balance is 1 for every K. Default true.',
  'losses.over':
    'With accumulation: balance the whole step (one more forward pass; default), or each micro-batch by itself.',
  'losses.gateZ': "Coefficient of the z-loss on the gates' logits. Default 0.001.",
  'losses.logitZ': 'Coefficient of the z-loss on the output logits. Default 0.',
  'losses.balance':
    'Other balance losses, built in (`importance`, `entropy`, …) or of `plugins`, by name: the coefficient, or with options beside it.',
  evaluation: 'When held-out text is measured.',
  'evaluation.everySteps': 'Steps between evaluations; null evaluates at the end only. Default 200.',
  'evaluation.tokens':
    'Held-out tokens measured in between, in windows spread over all documents. Default 32,768.',
  'evaluation.finalTokens': 'Held-out tokens of the last evaluation; null (default) measures all documents.',
  checkpoint: 'When a checkpoint is saved.',
  'checkpoint.everySteps':
    'Steps between checkpoints; null (default) saves one only when the run is stopped early.',
  ema: 'Average the weights; null (default) does not.',
  'ema.decay':
    'Weight of the old average, in [0, 1): 0.999 looks back about 1,000 steps. It grows to this from 0.18: see `averageDecay`.',
  'ema.startStep': 'Steps before averaging begins; until then the trained weights are measured. Default 0.',
  earlyStop: 'Stop early and keep the best weights; null (default) does not. Needs `evaluation.everySteps`.',
  'earlyStop.patience': 'Evaluations without a gain after which the run ends.',
  'earlyStop.minimumGain':
    'Bits per byte that count as a gain. Default 0: any. The best weights are kept whatever this is.',
  numerics: 'What to do about a loss or gradient that is not finite.',
  'numerics.onNonFinite':
    'Stop (default), or leave the step out: weights and optimizer stay as they were, the data go on.',
  'numerics.maximumSkips': 'Skipped steps in a row after which the run stops all the same. Default 10.',
  engine: 'What computes.',
  'engine.name': 'What runs the operations. Default auto: native when it is set up, else wasm.',
  'engine.threads': 'Threads inside one operation; default all cores.',
  seed: 'Of initial weights and of the order of the data. Default 0.',
  plugins:
    'Modules to load, by package or path: their callbacks run; losses, executors, routers and kinds of experts can be named.',
  executor: 'An executor of `plugins`, by name. Default: the local one.',
  tensorboard:
    "TensorBoard's event files: in `tensorboard` of the output folder (true), or in this folder. Default false.",
  router:
    "A router for every sparse layer, by name: built in or of `plugins`, with its own options beside it. Default: the model family's gate.",
  'router.name':
    'Of a router or router factory of `plugins`, or built in: `noisy-top-k`, `loss-free`, `relu`, …',
  capacity: 'Cap the load of experts. Default: no cap.',
  'capacity.train': 'Capacity factor of training steps; Switch took 1.25. null (default) drops nothing.',
  'capacity.evaluate':
    'Capacity factor of evaluations; Switch took 2. null (default) drops nothing. The saved model knows neither.',
  'capacity.method':
    'What to do with pairs over the cap: drop them (`token`, default), offer other experts first (`expanded`, `top-m`), cap each device (`device`), or choose again (`reroute`).',
  'capacity.key':
    'Which pairs stay: the highest score (default), the earliest tokens (`order`, as GShard and Switch do), the latest, or any.',
  'capacity.scope': 'Whose tokens share a cap: the batch (default), the shard of a device, or a sequence.',
  'capacity.devices':
    'Devices that share experts and tokens in equal runs; it divides the number of experts. Default 1.',
  'capacity.weights':
    "Weights of the pairs that stay: the router's own (default), raw scores, or scores over the sum of the chosen or of the kept ones.",
  expertKind:
    "The kind of every expert by name, built in (`plain-relu`, `gated-gelu`, …) or of `plugins`. Default: the model family's.",
  output: 'Folder for metrics, checkpoints and the trained model; null (default) keeps nothing on disk.',
  'model.model_type': 'Family: decides the gate and the tensor names. `qwen3` has no experts.',
  'model.vocab_size': 'V: entries of the vocabulary.',
  'model.hidden_size': 'D: width of the residual stream.',
  'model.intermediate_size': "Width of the dense layers' feed-forward; unused when every layer is sparse.",
  'model.num_hidden_layers': 'L: number of layers.',
  'model.num_attention_heads': 'H: query heads of a layer.',
  'model.num_key_value_heads': 'J: every H / J query heads share one key/value head.',
  'model.head_dim': 'C: width of a head, even. Need not be D / H.',
  'model.hidden_act': 'Activation of the gated feed-forward.',
  'model.max_position_embeddings': 'Positions the rotary table is made for.',
  'model.initializer_range': 'Standard deviation of initial weights.',
  'model.rms_norm_eps': 'Epsilon of every norm.',
  'model.tie_word_embeddings': 'Whether the output projection is the embedding.',
  'model.rope_theta': 'Base of the rotary frequencies.',
  'model.decoder_sparse_step': 'Layer l is sparse when (l + 1) is divisible by this.',
  'model.mlp_only_layers': 'Layers that are dense all the same.',
  'model.moe_intermediate_size': 'F: inner width of one expert.',
  'model.num_experts': 'E: experts of a sparse layer. Zero makes every layer dense.',
  'model.num_experts_per_tok': 'K: experts that each token is routed to.',
  'model.norm_topk_prob': 'Whether the K weights of a token are divided by their sum.',
  'model.router_aux_loss_coef': 'Coefficient of the load-balance loss.',
  'model.output_router_logits': 'Whether a loss includes the load-balance loss by default.',
  'model.bos_token_id': 'First token of a text, or null.',
  'model.eos_token_id': 'Tokens that end generation.',
  'model.pad_token_id': 'Padding token, or null.',
  'model.moebius':
    "Routers and kinds of experts that are not the family's own, by name; Hugging Face ignores it.",
  'model.moebius.schemaVersion': 'Of this section.',
  'model.moebius.routers': "Absent: every sparse layer has the family's gate.",
  'model.moebius.experts': "Absent: every expert is of the family's kind.",
  'model.moebius.shared': 'Absent: no layer has a shared expert.',
};
