/**
 * @file Over which tokens a balance loss forms its product of counts and probabilities.
 *
 * * `pooled`: all layers together, so opposite imbalances of two layers cancel (Hugging Face).
 * * `per-layer`: in each layer, then the mean over layers (Switch).
 * * `per-sequence`: in each sequence of each layer, then the mean (DeepSeek-V3).
 *
 * Whether "all tokens" are those of a micro-batch, of a step or of all ranks is decided by who adds the statistics: they are additive.
 */
import { z } from '@moebius/core';

/** Over which tokens a product of counts and probabilities is formed. */
export interface PoolingOptions {
  /** Where the product is formed. Default `per-layer`. */
  readonly pooling?: 'pooled' | 'per-layer' | 'per-sequence' | undefined;
  /** Tokens of a sequence `S`; required by `per-sequence`. Token `b·S + s` belongs to sequence b. */
  readonly sequenceTokens?: number | undefined;
}

/** The settings of {@link PoolingOptions} in a schema. */
export const poolingFields: {
  readonly pooling: z.ZodOptional<
    z.ZodEnum<{ pooled: 'pooled'; 'per-layer': 'per-layer'; 'per-sequence': 'per-sequence' }>
  >;
  readonly sequenceTokens: z.ZodOptional<z.ZodNumber>;
} = {
  pooling: z.enum(['pooled', 'per-layer', 'per-sequence']).optional(),
  sequenceTokens: z.int().min(1).optional(),
};
