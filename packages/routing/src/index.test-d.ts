import type { Plugin, Task } from '@moebius/core';
import { createRegistry } from '@moebius/core';
import type { RowPlan, Tensor1D, Tensor2D } from '@moebius/tensor';
import { expectTypeOf } from 'vitest';

import {
  createLocalExecutor,
  defineRouter,
  gateBackward,
  gateForward,
  gatedExpert,
  loadBalanceLoss,
  parseGateConfig,
  topKRouter,
  zLoss,
} from './index.ts';
import type {
  DispatchPlan,
  ExecutorOutput,
  ExpertExecutor,
  ExpertKind,
  GateConfig,
  Route,
  Router,
} from './index.ts';

expectTypeOf<DispatchPlan>().toExtend<RowPlan>();
expectTypeOf<Route['kind']>().toEqualTypeOf<'pairs' | 'slots' | 'merge'>();
expectTypeOf(parseGateConfig).parameter(0).toBeUnknown();
expectTypeOf(parseGateConfig).returns.toEqualTypeOf<GateConfig>();
expectTypeOf(gateForward).parameter(0).toEqualTypeOf<Tensor2D>();
expectTypeOf(gateForward)
  .returns.toHaveProperty('route')
  .toExtend<{ weights: Tensor1D; plan: DispatchPlan }>();
expectTypeOf(gateBackward).returns.toHaveProperty('dx').toEqualTypeOf<Tensor2D>();
expectTypeOf<ExpertExecutor['forward']>().returns.toEqualTypeOf<Task<ExecutorOutput>>();
expectTypeOf<ExpertKind>().toExtend<Plugin>();
expectTypeOf<Router>().toExtend<Plugin>();

// Plug-ins go into a registry by name.
createRegistry([createLocalExecutor()]);
createRegistry([gatedExpert(), gatedExpert({ activation: 'relu' })]);
createRegistry([loadBalanceLoss({ pooling: 'pooled' }), zLoss()]);
createRegistry([topKRouter(parseGateConfig({ experts: 4, topK: 1 }))]);

// @ts-expect-error a router needs backward
defineRouter({
  name: 'half',
  experts: 1,
  parameterShapes: () => ({}),
  bufferShapes: () => ({}),
  forward: () => null as never,
});
// @ts-expect-error the pooling must be named
loadBalanceLoss({});
// @ts-expect-error plans are read only
(null as unknown as DispatchPlan).tokens = 3;
