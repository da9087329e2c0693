import { describe, expect, it } from 'vitest';

import { defaultSampling, resolveSampling } from './sampling-flags.ts';

const tokens = { bos_token_id: null, eos_token_id: null, pad_token_id: null };

describe('resolveSampling', () => {
  it('has defaults where neither flag nor folder says anything', () => {
    expect(resolveSampling({}, tokens)).toEqual(defaultSampling);
  });
  it('follows the folder, and the flags before it', () => {
    const folder = { ...tokens, do_sample: true, temperature: 0.6, top_k: 20, repetition_penalty: 1.05 };
    expect(resolveSampling({}, folder)).toEqual({
      ...defaultSampling,
      temperature: 0.6,
      topK: 20,
      topP: 1,
      repetitionPenalty: 1.05,
    });
    const flagged = resolveSampling({ temperature: 0, topK: 0, minP: 0.1 }, folder);
    expect(flagged).toMatchObject({ temperature: 0, topK: 0, minP: 0.1, repetitionPenalty: 1.05 });
  });
  it('draws plainly when the folder only says do_sample', () => {
    expect(resolveSampling({}, { ...tokens, do_sample: true })).toMatchObject({ temperature: 1, topP: 1 });
  });
  it('takes the most probable token when the folder says do_sample: false, unless a flag says otherwise', () => {
    const folder = { ...tokens, do_sample: false };
    expect(resolveSampling({}, folder).temperature).toBe(0);
    expect(resolveSampling({ temperature: 0.5 }, folder).temperature).toBe(0.5);
  });
});
