export {
  check,
  checkClose,
  checkGradient,
  checkSame,
  checkThrows,
  differences,
  withoutLeak,
} from './checks.ts';
export type { GradientCheck, TestApi, Tolerance } from './checks.ts';
export { describeBalanceLoss } from './describe-balance-loss.ts';
export type { DescribeBalanceLossOptions } from './describe-balance-loss.ts';
export { describeCapacityPolicy } from './describe-capacity-policy.ts';
export type { DescribeCapacityPolicyOptions } from './describe-capacity-policy.ts';
export { describeExecutor } from './describe-executor.ts';
export type { DescribeExecutorOptions } from './describe-executor.ts';
export { describeExpert } from './describe-expert.ts';
export type { DescribeExpertOptions } from './describe-expert.ts';
export { describeRouter } from './describe-router.ts';
export type { DescribeRouterOptions } from './describe-router.ts';
export { layerOracle } from './layer-oracle.ts';
export type { OracleLayer, OracleResult } from './layer-oracle.ts';
export { samplePlans } from './plans.ts';
export type { NamedPlan } from './plans.ts';
