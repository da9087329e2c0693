export { defineBalanceLoss } from './balance-loss.ts';
export type {
  BalanceLoss,
  GateObservation,
  GateView,
  HostStatistics,
  LossGradient,
  LossGradientOptions,
  LossStatistics,
} from './balance-loss.ts';
export {
  capacityConfigSchema,
  capacitySizeFaults,
  needsPlacement,
  parseCapacityConfig,
} from './capacity/capacity-config.ts';
export type {
  CapacityCommon,
  CapacityConfig,
  CapacityKey,
  CapacityLimit,
  CapacityRounding,
  CapacityScope,
  CapacitySizes,
  CapacityWeightNorm,
  DropConfig,
  Expansion,
  ExpertDropConfig,
  PairPriority,
  PlacementConfig,
  RerouteConfig,
} from './capacity/capacity-config.ts';
export { capacityMethods } from './capacity/capacity-methods.ts';
export type { CapacityMethodName, CapacitySettings } from './capacity/capacity-methods.ts';
export { capacityPolicy } from './capacity/capacity-policy.ts';
export type { CapacityProblem } from './capacity/capacity-problem.ts';
export { capacityOf } from './capacity/cells.kernel.ts';
export type { CapacityOfCell } from './capacity/cells.kernel.ts';
export { defineCapacityPolicy } from './capacity/define-capacity-policy.ts';
export type {
  CapacityPolicy,
  CapacityPolicyDefinition,
  CapacityWeights,
} from './capacity/define-capacity-policy.ts';
export { planCapacity } from './capacity/plan-capacity.ts';
export type { PlanCapacityOptions } from './capacity/plan-capacity.ts';
export { planKept } from './capacity/plan-kept.ts';
export type { KeptPairs } from './capacity/plan-kept.ts';
export { weighKeptBackward, weighKeptForward } from './capacity/weigh-kept.ts';
export type { WeighKeptGradients, WeighKeptOptions, WeighKeptSaved } from './capacity/weigh-kept.ts';
export { withCapacity } from './capacity/with-capacity.ts';
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
export { defineRouter } from './define-router.ts';
export type {
  InitialRequest,
  Router,
  RouterBuffers,
  RouterDefinition,
  RouterGradients,
  RouterLoad,
  RouterOptions,
  RouterOutput,
  RouterParameters,
  RouterSettings,
  RouterUpstream,
} from './define-router.ts';
export { assertPlan, planFromJson, planStats, planToJson } from './dispatch-plan.ts';
export type {
  CapacityStats,
  CapacityStatsJson,
  DispatchPlan,
  DispatchPlanJson,
  RouteStats,
} from './dispatch-plan.ts';
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
export { builtInExperts, gatedExpert, identityExpert, nullExpert, plainExpert } from './expert-kinds.ts';
export type { FeedForwardExpertOptions, PlainExpertOptions } from './expert-kinds.ts';
export { createResidentSource } from './expert-source.ts';
export type { ResidentSourceOptions } from './expert-source.ts';
export { gateBackward, gateForward, gateInference, planScores } from './gate.ts';
export type {
  GateGradients,
  GateOptions,
  GateOutput,
  GateParameters,
  GateSaved,
  GateUpstream,
  PlanScoresOptions,
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
export { defineRouterFactory } from './router-factory.ts';
export type { RouterFactory, RouterPlace } from './router-factory.ts';
export { advanceRouter, routeBackward, routeForward, routeInference } from './run-router.ts';
export type { RouterBackwardInput, RouterInput } from './run-router.ts';
export type { RouterPhase, TokenContext } from './token-context.ts';
export { topKRouter } from './top-k-router.ts';
export { zLoss } from './z-loss.ts';
