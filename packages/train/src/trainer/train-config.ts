/**
 * @file The configuration of a run: plain JSON, versioned, checked as a whole before anything is made.
 */
import { configurationError, isMoebiusError } from '@moebius/core';
import type { Fault } from '@moebius/core';
import { parseModelConfig } from '@moebius/model';
import type { ModelConfig } from '@moebius/model';

import type { TextSource } from '../data/text-source.ts';
import { optimizerFaults } from './optimizer-settings.ts';
import { capacityFaults } from './run-capacity.ts';
import type { RunCapacityConfig } from './run-capacity.ts';
import { trainConfigDefinition } from './train-config-schema.ts';

/** Another text that is trained on beside the first, so that a fine-tuned model does not forget it. */
export interface ReplayConfig {
  /** The text. Documents that its own split (`heldOutFraction`, `splitSeed`) holds out are left out. */
  readonly source: TextSource;
  /** Share of sequences that come from it, above 0 and below 1. Default 0.25. */
  readonly share: number;
}

/** What text a run trains on. */
export interface DataConfig {
  /** Text to train on; also split for held-out text unless `heldOut` is given. Default the corpus `sotu`. */
  readonly training: TextSource;
  /** Held-out text of its own. */
  readonly heldOut?: TextSource | undefined;
  /** Text mixed in, usually what a model was trained on before. It is not measured. */
  readonly replay?: ReplayConfig | undefined;
  /** Share of documents held out of `training`. Default 0.1. */
  readonly heldOutFraction: number;
  /** Which documents are held out. Default 0. */
  readonly splitSeed: number;
}

/** How a step is made up. */
export interface BatchConfig {
  /** B: sequences of one micro-batch. Default 8. */
  readonly sequences: number;
  /** S: tokens of a sequence. Default 256. */
  readonly length: number;
  /** Micro-batches of one step. Default 1. */
  readonly accumulation: number;
}

/**
 * Parameters that are treated in their own way. Patterns are regular expressions on parameter names, or one of `@norms`, `@router`,
 * `@embeddings`, `@experts`, `@attention`.
 */
export interface ParameterGroup {
  /** Which parameters. The first group that matches counts; one that matches nothing is an error. */
  readonly pattern: string;
  /** Multiplies the learning rate. Default 1. */
  readonly learningRateScale?: number | undefined;
  /** Weight decay instead of the optimizer's, and of `noDecay`. */
  readonly weightDecay?: number | undefined;
  /** Whether they stay as they are. Default false. */
  readonly frozen?: boolean | undefined;
}

/** The optimizer, parameter groups, and clipping. */
export interface OptimizerConfig {
  /** `adamw` (default), `sgd`, `muon`, or an optimizer of `plugins` by name. */
  readonly kind: string;
  /** Peak learning rate. Default 1e-3. */
  readonly learningRate: number;
  /** AdamW: decay of the mean of gradients. Default 0.9. */
  readonly beta1: number;
  /** AdamW: decay of the mean of squared gradients. Default 0.95. */
  readonly beta2: number;
  /** AdamW: added to the divisor of an update. Default 1e-8. */
  readonly epsilon: number;
  /** SGD and Muon: share of the last move that is kept. Default 0.9 for SGD, 0.95 for Muon. */
  readonly momentum?: number | undefined;
  /** SGD and Muon: Nesterov's momentum, which looks one move ahead. Default false for SGD, true for Muon. */
  readonly nesterov?: boolean | undefined;
  /** SGD: whether decay shrinks the weights (`decoupled`, default) or is added to the gradient (`coupled`, as PyTorch does). */
  readonly decay?: 'decoupled' | 'coupled' | undefined;
  /** Muon: size of a move. `match-rms` (default): as large as AdamW's, for AdamW's learning rates. `original`: Jordan's, for rates near 0.02. */
  readonly scale?: 'match-rms' | 'original' | undefined;
  /** Muon: patterns of matrices that AdamW takes all the same. Default: embeddings, output head, routers. */
  readonly adamWFor?: readonly string[] | undefined;
  /** Settings of an optimizer of `plugins`. */
  readonly settings?: { readonly [name: string]: unknown } | undefined;
  /** Decoupled decay. Default 0.1. */
  readonly weightDecay: number;
  /** Patterns of parameters that are not decayed: regular expressions on names, or `@norms` and the like. Default `["norm"]`. */
  readonly noDecay: readonly string[];
  /** Parameters with a rate, a decay, or no training of their own. Default none. */
  readonly groups: readonly ParameterGroup[];
  /** Learning rate of each layer over that of the layer above; the embedding counts as the lowest. Default 1. */
  readonly layerDecay: number;
  /** Patterns of parameters that stay as they are: no update, no state, no part in the clipped norm. Default none. */
  readonly freeze: readonly string[];
  /** Largest global gradient norm; null does not clip. Default 1. */
  readonly clipNorm: number | null;
}

/** How the learning rate changes. */
export interface ScheduleConfig {
  /** Shape of the curve. Default cosine. `wsd`: warm-up, stable, decay. */
  readonly kind: 'cosine' | 'linear' | 'constant' | 'wsd';
  /** Share of the run in which the rate rises; `warmupSteps` wins where given. Default 0.02. */
  readonly warmupFraction: number;
  /** Steps in which the rate rises. */
  readonly warmupSteps?: number | undefined;
  /** Last rate over the peak. Default 0.1. */
  readonly floor: number;
  /** `wsd`: share of the run, at its end, in which the rate falls. Default 0.2. */
  readonly decayFraction: number;
}

/** A balance loss by name; every other key is an option of its own. */
export interface NamedLossConfig {
  /** Multiplies the loss. */
  readonly coefficient: number;
  readonly [option: string]: unknown;
}

/** Losses beside the cross-entropy. */
export interface LossesConfig {
  /** Coefficient of the load-balance loss. Default 0.01. */
  readonly loadBalance: number;
  /** Where balance is asked for: over all layers at once (Hugging Face), in each layer (default), or in each sequence. */
  readonly pooling: 'pooled' | 'per-layer' | 'per-sequence';
  /** Divide by K, so that perfect balance is 1 for every K. Default true. */
  readonly divideByTopK: boolean;
  /** With accumulation: balance the whole step (one more forward pass; default), or each micro-batch by itself. */
  readonly over: 'step' | 'micro-batch';
  /** Coefficient of the z-loss on the gates' logits. Default 0.001. */
  readonly gateZ: number;
  /** Coefficient of the z-loss on the output logits. Default 0. */
  readonly logitZ: number;
  /** Other balance losses, built in (`importance`, `entropy`, …) or of `plugins`, by name: the coefficient, or with options beside it. */
  readonly balance?: { readonly [name: string]: number | NamedLossConfig } | undefined;
}

/** When held-out text is measured. */
export interface EvaluationConfig {
  /** Steps between evaluations; null evaluates at the end only. Default 200. */
  readonly everySteps: number | null;
  /** Held-out tokens measured in between, in windows spread over all documents. Default 32,768. */
  readonly tokens: number;
  /** Held-out tokens of the last evaluation; null (default) measures all documents. */
  readonly finalTokens: number | null;
}

/** A moving average of the weights: what is measured and saved as the model. */
export interface EmaConfig {
  /** Weight of the old average, in [0, 1): 0.999 looks back about 1,000 steps. It grows to this from 0.18: see `averageDecay`. */
  readonly decay: number;
  /** Steps before averaging begins; until then the trained weights are measured. Default 0. */
  readonly startStep: number;
}

/** When to stop because held-out text is no longer read better. */
export interface EarlyStopConfig {
  /** Evaluations without a gain after which the run ends. */
  readonly patience: number;
  /** Bits per byte that count as a gain. Default 0: any. The best weights are kept whatever this is. */
  readonly minimumGain: number;
}

/** What to do about a loss or gradient that is not finite. */
export interface NumericsConfig {
  /** Stop (default), or leave the step out: weights and optimizer stay as they were, the data go on. */
  readonly onNonFinite: 'stop' | 'skip';
  /** Skipped steps in a row after which the run stops all the same. Default 10. */
  readonly maximumSkips: number;
}

/** A router by name; every other key is an option of its own. */
export interface RouterConfig {
  /** Of a router or router factory of `plugins`, or built in: `noisy-top-k`, `loss-free`, `relu`, … */
  readonly name: string;
  readonly [option: string]: unknown;
}

/** A checked run configuration with every default filled. */
export interface TrainConfig {
  /** Where the JSON Schema is that an editor checks the file against; kept, and otherwise ignored. */
  readonly $schema?: string | undefined;
  /** Version of this format: 1. */
  readonly schemaVersion: number;
  /** Names the run in messages and files. Default `run`. */
  readonly name: string;
  /**
   * The model's config.json, without `vocab_size` when the tokenizer decides it; or the path of a model folder whose
   * config.json is meant.
   */
  readonly model: string | { readonly [key: string]: unknown };
  /**
   * A model folder whose weights the run begins with; null (default) begins at random. `model` may then be left out, and so
   * may `tokenizer`: both are the folder's.
   */
  readonly initFrom: string | null;
  readonly data: DataConfig;
  /** A tokenizer to train on the training text (default: 4,096 tokens), or the path of one. */
  readonly tokenizer:
    | {
        /** Entries to make, the 256 bytes and the special tokens included. Default 4,096. */
        readonly vocabularySize: number;
        /** Pairs that occur less often are not merged. Default 2. */
        readonly minimumCount: number;
      }
    | {
        /** A tokenizer.json, or a folder with one. */
        readonly path: string;
      };
  readonly batch: BatchConfig;
  /** How long: by steps, by tokens, or by time (then the schedule follows the clock, and no two runs are the same). */
  readonly duration:
    | {
        /** Updates of the parameters. */
        readonly steps: number;
      }
    | {
        /** Tokens trained on, rounded up to whole steps. */
        readonly tokens: number;
      }
    | {
        /** Minutes from the first step on, evaluations in between included, preparation not. */
        readonly minutes: number;
      };
  readonly optimizer: OptimizerConfig;
  readonly schedule: ScheduleConfig;
  readonly losses: LossesConfig;
  readonly evaluation: EvaluationConfig;
  /** When a checkpoint is saved. */
  readonly checkpoint: {
    /** Steps between checkpoints; null (default) saves one only when the run is stopped early. */
    readonly everySteps: number | null;
  };
  /** Average the weights; null (default) does not. */
  readonly ema: EmaConfig | null;
  /** Stop early and keep the best weights; null (default) does not. Needs `evaluation.everySteps`. */
  readonly earlyStop: EarlyStopConfig | null;
  /** What to do about a loss or gradient that is not finite. */
  readonly numerics: NumericsConfig;
  /** What computes. */
  readonly engine: {
    /** What runs the operations. Default auto: native when it is set up, else wasm. */
    readonly name: 'auto' | 'native' | 'wasm' | 'cpu';
    /** Threads inside one operation; default all cores. */
    readonly threads?: number | undefined;
  };
  /** Of initial weights and of the order of the data. Default 0. */
  readonly seed: number;
  /** Modules to load, by package or path: their callbacks run; losses, executors, routers and kinds of experts can be named. */
  readonly plugins?: readonly string[] | undefined;
  /** An executor of `plugins`, by name. Default: the local one. */
  readonly executor?: string | undefined;
  /** TensorBoard's event files: in `tensorboard` of the output folder (true), or in this folder. Default false. */
  readonly tensorboard: boolean | string;
  /** A router for every sparse layer, by name: built in or of `plugins`, with its own options beside it. Default: the model family's gate. */
  readonly router?: RouterConfig | undefined;
  /** Cap the load of experts. Default: no cap. */
  readonly capacity: RunCapacityConfig;
  /** The kind of every expert by name, built in (`plain-relu`, `gated-gelu`, …) or of `plugins`. Default: the model family's. */
  readonly expertKind?: string | undefined;
  /** Folder for metrics, checkpoints and the trained model; null (default) keeps nothing on disk. */
  readonly output: string | null;
}

/** What may be written: whatever has a default may be left out. */
export type TrainConfigInput = Pick<TrainConfig, 'duration'> & {
  readonly [K in Exclude<keyof TrainConfig, OwnInput>]?:
    | (TrainConfig[K] extends object ? Partial<TrainConfig[K]> : TrainConfig[K])
    | undefined;
} & {
  /** Needed, unless `initFrom` names a model. */
  readonly model?: TrainConfig['model'] | undefined;
  readonly tokenizer?:
    | { readonly vocabularySize?: number; readonly minimumCount?: number }
    | { readonly path: string }
    | undefined;
  readonly ema?: (Partial<EmaConfig> & Pick<EmaConfig, 'decay'>) | null | undefined;
  readonly earlyStop?: (Partial<EarlyStopConfig> & Pick<EarlyStopConfig, 'patience'>) | null | undefined;
};

/** Fields whose written form is said by hand. */
type OwnInput = 'model' | 'duration' | 'tokenizer' | 'ema' | 'earlyStop';

/** A vocabulary that stands in while the tokenizer's is not known yet. */
const provisionalVocabulary = 65_536;

/**
 * Checks a run configuration, the model's included, and fills defaults.
 *
 * @param value - parsed JSON
 * @param subject - what messages call it
 * @throws `configuration` with every fault at once
 * @example
 * ```ts
 * const config = parseTrainConfig({
 *   model: {
 *     model_type: 'qwen3_moe', hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2,
 *     moe_intermediate_size: 32, num_experts: 8, num_experts_per_tok: 2,
 *   },
 *   duration: { steps: 100 },
 * });
 * ```
 */
export function parseTrainConfig(value: unknown, subject: string = 'run configuration'): TrainConfig {
  const faults: Fault[] = [];
  let config: TrainConfig | undefined;
  try {
    config = trainConfigDefinition.parse(withInitialModel(value), subject);
  } catch (error) {
    faults.push(...faultsIn(error));
  }
  const model = (value as { model?: unknown } | null | undefined)?.model;
  if (typeof model === 'object' && model !== null && !Array.isArray(model))
    faults.push(...modelFaults(model));
  if (config !== undefined) faults.push(...relationFaults(config));
  if (faults.length > 0 || config === undefined) throw configurationError(subject, faults);
  return config;
}

/**
 * The model's configuration with the tokenizer's vocabulary.
 *
 * @param model - the `model` object of a run, or the content of a config.json
 * @throws `configuration` when it names a vocabulary smaller than the tokenizer's
 */
export function resolveModelConfig(
  model: { readonly [key: string]: unknown },
  tokens: { readonly vocabularySize: number; readonly endOfTextId: number },
): ModelConfig {
  const { vocabularySize, endOfTextId } = tokens;
  const config = parseModelConfig(
    { vocab_size: vocabularySize, bos_token_id: endOfTextId, eos_token_id: endOfTextId, ...model },
    'model',
  );
  if (config.vocab_size >= vocabularySize) return config;
  throw configurationError('model', [
    {
      path: 'vocab_size',
      expectation: `must be at least the tokenizer's ${vocabularySize}`,
      got: String(config.vocab_size),
      remedy: 'leave it out, then the tokenizer decides',
    },
  ]);
}

/** A run that begins with a saved model has its configuration and its tokenizer, unless it names others. */
function withInitialModel(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const { initFrom, model, tokenizer } = value as { readonly [key: string]: unknown };
  if (typeof initFrom !== 'string') return value;
  return { ...value, model: model ?? initFrom, tokenizer: tokenizer ?? { path: initFrom } };
}

function modelFaults(model: object): Fault[] {
  try {
    parseModelConfig({ vocab_size: provisionalVocabulary, ...model }, 'model');
    return [];
  } catch (error) {
    return faultsIn(error).map((fault) => ({
      ...fault,
      path: fault.path === '' ? 'model' : `model.${fault.path}`,
    }));
  }
}

function relationFaults(config: TrainConfig): Fault[] {
  const faults: Fault[] = [...optimizerFaults(config), ...capacityFaults(config)];
  const { batch: sizes, model } = config;
  const positions = typeof model === 'string' ? undefined : model['max_position_embeddings'];
  if (typeof positions === 'number' && positions < sizes.length) {
    faults.push({
      path: 'batch.length',
      expectation: `must be at most model.max_position_embeddings ${positions}`,
      got: String(sizes.length),
      remedy: 'shorten the sequence, or raise max_position_embeddings',
    });
  }
  if (config.earlyStop !== null && config.evaluation.everySteps === null) {
    const expectation = 'must have evaluations to stop by (evaluation.everySteps)';
    const remedy = 'set evaluation.everySteps, or earlyStop to null';
    faults.push({ path: 'earlyStop', expectation, got: 'evaluation.everySteps null', remedy });
  }
  if (config.schedule.kind === 'wsd' && config.schedule.warmupFraction + config.schedule.decayFraction > 1) {
    faults.push({
      path: 'schedule.decayFraction',
      expectation: `must leave room beside warmupFraction ${config.schedule.warmupFraction}: their sum at most 1`,
      got: String(config.schedule.decayFraction),
    });
  }
  return faults;
}

function faultsIn(error: unknown): Fault[] {
  if (!isMoebiusError(error, 'configuration')) throw error;
  const { faults } = error.details as { faults?: readonly Fault[] };
  if (faults === undefined) throw error;
  return [...faults];
}
