import { describe, expect, it } from 'vitest';

import { causalityWarning } from './causality.ts';
import { defineRouter } from './define-router.ts';
import { parseGateConfig } from './gate-config.ts';
import { topKRouter } from './top-k-router.ts';

describe('causalityWarning', () => {
  const plain = topKRouter(parseGateConfig({ experts: 4, topK: 2 }));
  const ahead = defineRouter({ ...plain, name: 'looks-ahead', causal: false });

  it('names the layers and routers that look ahead, in one line', () => {
    expect(causalityWarning([ahead, null, plain, ahead])).toBe(
      'routers of layers 0, 3 ("looks-ahead"): are not causal, so a token\'s route depends on tokens after it: losses are those of a model that has seen the future, and generation will not reach them (use them in encoders, or choose a causal router)',
    );
  });

  it('says nothing of routers that do not', () => {
    expect(plain.causal).toBe(true);
    expect(causalityWarning([plain, null])).toBe(null);
  });
});
