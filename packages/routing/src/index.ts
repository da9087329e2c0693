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
export { defineRouter, topKRouter } from './define-router.ts';
export type {
  Router,
  RouterGradients,
  RouterOptions,
  RouterOutput,
  RouterParameters,
  RouterUpstream,
} from './define-router.ts';
export { assertPlan, planFromJson, planStats, planToJson } from './dispatch-plan.ts';
export type { DispatchPlan, DispatchPlanJson, RouteStats } from './dispatch-plan.ts';
export { defineExecutor, listGradients } from './expert-executor.ts';
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
export { gatedExpert, identityExpert, nullExpert, plainExpert } from './expert-kinds.ts';
export type { FeedForwardExpertOptions, PlainExpertOptions } from './expert-kinds.ts';
export { createResidentSource } from './expert-source.ts';
export type { ResidentSourceOptions } from './expert-source.ts';
export { gateBackward, gateForward, gateInference } from './gate.ts';
export type {
  GateGradients,
  GateOptions,
  GateOutput,
  GateParameters,
  GateSaved,
  GateUpstream,
} from './gate.ts';
export { gateConfigSchema, parseGateConfig } from './gate-config.ts';
export type { GateConfig, GateGroups, GateScore } from './gate-config.ts';
export { loadBalanceLoss } from './load-balance-loss.ts';
export type { LoadBalanceOptions } from './load-balance-loss.ts';
export { createLocalExecutor } from './local-executor.ts';
export type { LocalExecutorOptions } from './local-executor.ts';
export { addStatistics, readStatistics, takeLossGradients } from './loss-statistics.ts';
export { planPairs, planTopK } from './plan-top-k.ts';
export type { PlanPairsOptions, PlanTopKOptions } from './plan-top-k.ts';
export type { MergeRoute, PairsRoute, Route, SlotsRoute } from './route.ts';
export { zLoss } from './z-loss.ts';
