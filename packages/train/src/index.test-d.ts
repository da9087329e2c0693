import { describe, expectTypeOf, it } from 'vitest';

import { createTrainer, defineCallback } from './index.ts';
import type { Callback, EvaluateEvent, StepEvent, TrainConfigInput, TrainEvent, Trainer } from './index.ts';

describe('the public surface', () => {
  it('narrows events by their kind', () => {
    expectTypeOf<Extract<TrainEvent, { kind: 'step' }>>().toEqualTypeOf<StepEvent>();
    expectTypeOf<Extract<TrainEvent, { kind: 'evaluate' }>>().toEqualTypeOf<EvaluateEvent>();
    expectTypeOf<TrainEvent['kind']>().toEqualTypeOf<
      'prepare' | 'start' | 'step' | 'skip' | 'evaluate' | 'save' | 'save-failed' | 'end'
    >();
  });

  it('asks for a model and a duration, and for nothing else', () => {
    expectTypeOf<{ model: string; duration: { steps: number } }>().toExtend<TrainConfigInput>();
    expectTypeOf<{ model: string }>().not.toExtend<TrainConfigInput>();
    expectTypeOf<{ model: string; duration: { hours: number } }>().not.toExtend<TrainConfigInput>();
    expectTypeOf<{
      model: string;
      duration: { steps: number };
      batch: { sequences: string };
    }>().not.toExtend<TrainConfigInput>();
  });

  it('needs a clock', () => {
    expectTypeOf(createTrainer).parameter(1).toHaveProperty('clock');
    expectTypeOf(createTrainer).returns.toEqualTypeOf<Trainer>();
  });

  it('gives callbacks typed events', () => {
    const callback = defineCallback({
      name: 'typed',
      onStep: (event) => {
        expectTypeOf(event).toEqualTypeOf<StepEvent>();
      },
    });
    expectTypeOf(callback).toEqualTypeOf<Callback>();
  });
});
