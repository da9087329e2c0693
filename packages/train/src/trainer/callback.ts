/**
 * @file Callbacks: code of others at fixed points of a run, by value.
 */
import { MoebiusError, definePlugin, isMoebiusError } from '@moebius/core';
import type { Plugin } from '@moebius/core';
import type { DecoderModel } from '@moebius/model';

import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type {
  EndEvent,
  EvaluateEvent,
  SaveEvent,
  SkipEvent,
  StartEvent,
  StepEvent,
  TrainEvent,
} from './events.ts';
import type { TrainConfig } from './train-config.ts';

/** What a callback may look at. All of it is borrowed. */
export interface CallbackContext {
  readonly config: TrainConfig;
  readonly model: DecoderModel;
  readonly tokenizer: Tokenizer;
}

/** Hooks of a run. A hook that returns a promise is awaited before the run goes on. */
export interface CallbackHooks {
  /** Before the first step. */
  onStart?(event: StartEvent, context: CallbackContext): void | Promise<void>;
  /** After each step. */
  onStep?(event: StepEvent, context: CallbackContext): void | Promise<void>;
  /** After each step that was left out because a number was not finite. */
  onSkip?(event: SkipEvent, context: CallbackContext): void | Promise<void>;
  /** After each evaluation. */
  onEvaluate?(event: EvaluateEvent, context: CallbackContext): void | Promise<void>;
  /** After something was written. */
  onSave?(event: SaveEvent, context: CallbackContext): void | Promise<void>;
  /** After the last event. */
  onEnd?(event: EndEvent, context: CallbackContext): void | Promise<void>;
}

/** A callback. */
export interface Callback extends Plugin, CallbackHooks {
  readonly kind: 'callback';
}

const hookNames = ['onStart', 'onStep', 'onSkip', 'onEvaluate', 'onSave', 'onEnd'] as const;

/**
 * Defines a callback.
 *
 * @throws `plugin` when the name is not kebab-case or a hook is not a function
 * @example
 * ```ts
 * const report = defineCallback({
 *   name: 'report',
 *   onEvaluate: (event) => console.log(event.step, event.bitsPerByte),
 * });
 * ```
 */
export function defineCallback(definition: { readonly name: string } & CallbackHooks): Callback {
  for (const hook of hookNames) {
    const value: unknown = definition[hook];
    if (value === undefined || typeof value === 'function') continue;
    throw new MoebiusError({
      code: 'plugin',
      message: `callback "${definition.name}": ${hook} must be a function, got ${typeof value} (leave it out)`,
      details: { name: definition.name, hook },
    });
  }
  return definePlugin({ ...definition, kind: 'callback' as const });
}

/**
 * Hands an event to every callback, in order.
 *
 * @throws `plugin` naming the callback and hook that threw, with its error as cause; a callback's `io` as it is
 */
export async function notifyCallbacks(
  callbacks: readonly Callback[],
  event: TrainEvent,
  context: CallbackContext,
): Promise<void> {
  for (const callback of callbacks) {
    try {
      await callHook(callback, event, context);
    } catch (cause) {
      // A disk that fails is no fault of the callback.
      if (isMoebiusError(cause, 'io')) throw cause;
      throw new MoebiusError({
        code: 'plugin',
        message: `callback "${callback.name}": must not throw, got "${cause instanceof Error ? cause.message : String(cause)}" at the ${event.kind} event (fix or remove it)`,
        details: { name: callback.name, event: event.kind },
        cause,
      });
    }
  }
}

function callHook(
  callback: Callback,
  event: TrainEvent,
  context: CallbackContext,
): void | Promise<void> | undefined {
  switch (event.kind) {
    case 'start':
      return callback.onStart?.(event, context);
    case 'step':
      return callback.onStep?.(event, context);
    case 'skip':
      return callback.onSkip?.(event, context);
    case 'evaluate':
      return callback.onEvaluate?.(event, context);
    case 'save':
      return callback.onSave?.(event, context);
    case 'end':
      return callback.onEnd?.(event, context);
    case 'prepare':
    case 'save-failed':
      return undefined;
  }
}
