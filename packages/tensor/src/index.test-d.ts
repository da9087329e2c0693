import { describe, expectTypeOf, it } from 'vitest';

import {
  createParameterStore,
  defineOp,
  linear,
  linearForward,
  softmaxCrossEntropyForward,
  topKForward,
} from './index.ts';
import type {
  Forward,
  KvCache,
  LinearSaved,
  ParameterStore,
  RowPlan,
  Scalar,
  Snapshot,
  Tensor1D,
  Tensor2D,
  UpdateReport,
} from './index.ts';

describe('the surface of operations', () => {
  it('keeps ranks in the types', () => {
    expectTypeOf(linearForward).returns.toEqualTypeOf<Forward<Tensor2D, LinearSaved>>();
    expectTypeOf(linear).parameters.toEqualTypeOf<[Tensor2D, Tensor2D, Tensor1D?]>();
    expectTypeOf(softmaxCrossEntropyForward)
      .returns.toHaveProperty('value')
      .toHaveProperty('loss')
      .toEqualTypeOf<Scalar>();
    expectTypeOf(topKForward).returns.toHaveProperty('value').toHaveProperty('ids').toEqualTypeOf<Tensor2D>();
  });

  it('keeps the types of a function that becomes an operation', () => {
    const op = defineOp('pair', (x: Tensor2D, n: number) => ({ x, n }));
    expectTypeOf(op).toEqualTypeOf<(x: Tensor2D, n: number) => { x: Tensor2D; n: number }>();
  });

  it('takes a plan by structure', () => {
    expectTypeOf<{ extra: string } & RowPlan>().toExtend<RowPlan>();
  });
});

describe('the surface of owners', () => {
  it('reports what an update did and hands out snapshots', () => {
    expectTypeOf(createParameterStore).returns.toEqualTypeOf<ParameterStore>();
    expectTypeOf<ParameterStore['update']>().returns.toEqualTypeOf<UpdateReport>();
    expectTypeOf<ParameterStore['capture']>().returns.toEqualTypeOf<Snapshot>();
    expectTypeOf<KvCache['lengths']>().returns.toEqualTypeOf<Int32Array>();
  });
});
