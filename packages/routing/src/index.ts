export { defineBalanceLoss } from './balance-loss.ts';
export type {
  BalanceLoss,
  GateObservation,
  HostStatistics,
  LossGradient,
  LossGradientOptions,
  LossStatistics,
} from './balance-loss.ts';
export { countExpertParameters, defineExpert, partShape } from './define-expert.ts';
export type {
  ExpertBackward,
  ExpertForward,
  ExpertGradients,
  ExpertKind,
  ExpertParameters,
  ExpertSize,
  FusedBackward,
  FusedLayer,
  PartAxis,
} from './define-expert.ts';
export { assertPlan, planFromJson, planStats, planToJson } from './dispatch-plan.ts';
export type { DispatchPlan, DispatchPlanJson, RouteStats } from './dispatch-plan.ts';
export { listGradients } from './expert-executor.ts';
export type {
  ExecutorGradients,
  ExecutorInput,
  ExecutorOutput,
  ExecutorSaved,
  ExpertExecutor,
  ExpertSource,
  Lease,
  RouteGradients,
} from './expert-executor.ts';
export { parseGateConfig } from './gate-config.ts';
export type { GateConfig, GateGroups, GateScore } from './gate-config.ts';
export { planPairs, planTopK } from './plan-top-k.ts';
export type { PlanPairsOptions, PlanTopKOptions } from './plan-top-k.ts';
export type { MergeRoute, PairsRoute, Route, SlotsRoute } from './route.ts';
