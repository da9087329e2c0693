/** @file Every test of the operations, for one engine. */
import { expect, it } from 'vitest';

import { expectNoTensorLeak, installTensorMatchers } from '../../src/testing/index.ts';
import type { EngineSuite } from '../../src/testing/index.ts';
import { describeAttentionPairs } from './attention-suite.ts';
import { describeBlocks } from './block-suite.ts';
import { describeCache } from './cache-suite.ts';
import { describeDense } from './dense-suite.ts';
import { describeLarge } from './large-suite.ts';
import { describeLosses } from './loss-suite.ts';
import { describeRows } from './rows-suite.ts';
import { hasNativeKernels } from './portable-bodies.ts';
import { describeShapes } from './shape-suite.ts';

export function operationsSuite(context: EngineSuite): void {
  installTensorMatchers();
  expectNoTensorLeak();
  it('runs on the engine it names, native with the fused kernels', () => {
    expect(context.engine().name).toBe(context.name);
    expect(hasNativeKernels()).toBe(context.name === 'native');
  });
  describeDense();
  describeAttentionPairs();
  describeRows();
  describeLosses();
  describeCache();
  describeBlocks();
  if (context.name === 'native') describeLarge();
  describeShapes();
}
