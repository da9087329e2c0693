export { describeEngine } from './describe-engine.ts';
export type { EngineSuite } from './describe-engine.ts';
export { centralDifferences } from './gradients.ts';
export type { DifferenceOptions } from './gradients.ts';
export { expectNoTensorLeak, installTensorMatchers } from './matchers.ts';
export type { Numbers, Tolerance } from './matchers.ts';
export { sampleMatrix, sampleTensor, sampleVector, toList, toMatrix, zeroMatrix } from './matrix.ts';
export type { Matrix } from './matrix.ts';
export { attendRow, referenceAttention, referenceHeadNormRope } from './reference-attention.ts';
export type { ReferenceAttentionOptions } from './reference-attention.ts';
export {
  referenceActivation,
  referenceCrossEntropy,
  referenceErf,
  referenceFeedForward,
  referenceGatedFeedForward,
  referenceLinear,
  referenceMatmul,
  referenceRmsNorm,
  referenceTranspose,
} from './reference-dense.ts';
export type { ReferenceGatedWeights } from './reference-dense.ts';
export {
  referenceAdamW,
  referenceCombine,
  referenceExpertFeedForward,
  referenceExpertOfPair,
  referenceGroupedMatmul,
  referenceTopK,
} from './reference-rows.ts';
export type { ReferenceAdamWState } from './reference-rows.ts';
export { oracleDifferences } from './oracle-differences.ts';
export type { OracleDifferenceOptions } from './oracle-differences.ts';
