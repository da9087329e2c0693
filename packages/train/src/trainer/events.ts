/**
 * @file What a run tells while it goes on: plain data, one object per event.
 */
import type { Baselines } from '../evaluation/baselines.ts';
import type { EvaluationResult } from '../evaluation/evaluate.ts';

/** A stage of preparation has ended. */
export interface PrepareEvent {
  readonly kind: 'prepare';
  readonly stage: 'engine' | 'text' | 'tokenizer' | 'shards' | 'model' | 'resume';
  /** What was made or found, in one line. */
  readonly detail: string;
  readonly elapsedMs: number;
}

/** Training begins. */
export interface StartEvent {
  readonly kind: 'start';
  /** First step of this session: 0, or where a resumed run stopped. */
  readonly step: number;
  /** Steps of the whole run; undefined when time decides. */
  readonly steps: number | undefined;
  /** Tokens of one step, accumulation included. */
  readonly tokensPerStep: number;
  readonly parameters: number;
  /** Parameters that one token uses. */
  readonly activeParameters: number;
  /** Bytes that a step is estimated to hold in tensors. */
  readonly estimatedBytes: number;
  /** Floating point operations of one step, forward and backward. */
  readonly flopsPerStep: number;
  /** Tokens of the training text. */
  readonly trainingTokens: number;
  readonly heldOutTokens: number;
  /** Matrix products of this machine, operations per second; absent when whoever started the run did not measure it. */
  readonly matmulFlopsPerSecond?: number;
  /** What whoever starts the run should know, one line each, as that a router looks ahead; absent when there is nothing. */
  readonly warnings?: readonly string[];
}

/** Use of the experts of one layer in one step. */
export interface LayerLoad {
  readonly layer: number;
  /** Pairs routed to each expert, `[E]`. */
  readonly load: readonly number[];
  /** Largest load over mean load: 1 is even use. */
  readonly imbalance: number;
  /** Entropy of the loads over its maximum: 1 is even use, 0 is one expert. */
  readonly entropy: number;
  /** Experts that no token went to. */
  readonly idle: number;
}

/** A step is done. */
export interface StepEvent {
  readonly kind: 'step';
  /** 1 after the first step of a run. */
  readonly step: number;
  /** Share of the run that is done. */
  readonly fraction: number;
  /** Tokens trained on since the run began. */
  readonly tokens: number;
  /** Mean cross-entropy of the step's targets before the update, nats. */
  readonly loss: number;
  /** `loss` plus the weighted auxiliary losses. */
  readonly totalLoss: number;
  /** Auxiliary losses without their coefficients: `load-balance`, `gate-z`, `logit-z-loss`. */
  readonly aux: { readonly [name: string]: number };
  readonly learningRate: number;
  /** Global gradient norm before clipping. */
  readonly gradientNorm: number;
  readonly stepMs: number;
  /** Time since training began, over all sessions: steps, evaluations, saving, and whatever the consumer did. */
  readonly elapsedMs: number;
  readonly tokensPerSecond: number;
  /** The model's operations (`flopsPerStep`) per second of the step. */
  readonly flopsPerSecond: number;
  /** `flopsPerSecond` over the machine's matmul rate; absent when that is not known. */
  readonly mfu?: number;
  /** Estimated time to the end, at the pace of this session. */
  readonly remainingMs: number;
  /** Sparse layers, first to last. */
  readonly routing: readonly LayerLoad[];
  /** Live tensors and their bytes after the step. */
  readonly memory: { readonly tensors: number; readonly bytes: number; readonly residentBytes?: number };
}

/** A step was left out: a loss or gradient was not finite. Weights and optimizer are as they were; the data go on. */
export interface SkipEvent {
  readonly kind: 'skip';
  readonly step: number;
  /** Share of the run that is done. */
  readonly fraction: number;
  /** What was not finite, with its layer and tensor. */
  readonly reason: string;
  /** Layer where it was found; null when no layer can be named. */
  readonly layer: number | null;
  /** Parameter or gradient that is not finite; null when it is neither. */
  readonly parameter: string | null;
  /** Skipped steps in a row, this one included. */
  readonly inRow: number;
  /** Skipped steps of the whole run, this one included. */
  readonly total: number;
  readonly stepMs: number;
}

/** Held-out text was measured. */
export interface EvaluateEvent extends EvaluationResult {
  readonly kind: 'evaluate';
  readonly step: number;
  /** Tokens trained on so far. */
  readonly seenTokens: number;
  /** What was measured: the weights as trained, their moving average, or the best of an early stop. */
  readonly weights: 'trained' | 'average' | 'best';
  /** Whether all held-out documents were measured. */
  readonly isWhole: boolean;
  readonly elapsedMs: number;
}

/** Something was written. */
export interface SaveEvent {
  readonly kind: 'save';
  readonly what: 'checkpoint' | 'model';
  readonly step: number;
  readonly folder: string;
  readonly elapsedMs: number;
}

/** Something could not be written, because there is no room for it. The run goes on, with its numbers in memory. */
export interface SaveFailedEvent {
  readonly kind: 'save-failed';
  readonly what: 'checkpoint' | 'model';
  readonly step: number;
  readonly folder: string;
  /** What was needed, what there is, what to do. */
  readonly message: string;
  /** When it is tried again: `soon`, every few seconds, when it is the last save of a run. */
  readonly retry: 'soon' | 'with the next checkpoint';
}

/** The run is over. */
export interface EndEvent {
  readonly kind: 'end';
  /** `early-stop`: held-out text was no longer read better; the best weights were saved. */
  readonly reason: 'finished' | 'aborted' | 'early-stop';
  readonly step: number;
  /** The step whose weights are the result; only with early stopping. */
  readonly bestStep?: number;
  /** Steps that were left out because a number was not finite. */
  readonly skippedSteps: number;
  readonly tokens: number;
  /** Time of all sessions, preparation left out. */
  readonly elapsedMs: number;
  /** The last evaluation; absent when the run was aborted. */
  readonly evaluation?: EvaluationResult;
  /** What simple methods reach on the same held-out text; absent when the run was aborted. */
  readonly baselines?: Baselines & {
    /** Kneser-Ney token bigram trained on exactly the tokens that the model has seen. */
    readonly tokenBigramSeen: number;
  };
}

/** Anything that a run tells. */
export type TrainEvent =
  | PrepareEvent
  | StartEvent
  | StepEvent
  | SkipEvent
  | EvaluateEvent
  | SaveEvent
  | SaveFailedEvent
  | EndEvent;
