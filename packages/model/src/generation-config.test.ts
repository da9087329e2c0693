import { isMoebiusError } from '@moebius/core';
import { describe, expect, it } from 'vitest';

import { generationConfigToJson, parseGenerationConfig } from './generation-config.ts';

describe('parseGenerationConfig', () => {
  it('reads the file of a published model and leaves out what is absent, null or of no meaning here', () => {
    const file = {
      bos_token_id: 151_643,
      do_sample: true,
      eos_token_id: [151_645, 151_643],
      pad_token_id: 151_643,
      temperature: 0.7,
      top_k: 20,
      top_p: 0.8,
      min_p: null,
      transformers_version: '4.51.0',
    };
    expect(parseGenerationConfig(file)).toEqual({
      bos_token_id: 151_643,
      do_sample: true,
      eos_token_id: [151_645, 151_643],
      pad_token_id: 151_643,
      temperature: 0.7,
      top_k: 20,
      top_p: 0.8,
    });
  });

  it('is what is written', () => {
    const generation = parseGenerationConfig({ temperature: 0.5, repetition_penalty: 1.1, eos_token_id: 3 });
    const json = generationConfigToJson(generation);
    expect(json).not.toHaveProperty('_from_model_config');
    expect(parseGenerationConfig(JSON.parse(JSON.stringify(json)))).toEqual(generation);
  });

  it('is marked as made from config.json when it holds special tokens only', () => {
    expect(generationConfigToJson(parseGenerationConfig({ eos_token_id: 3 }))).toMatchObject({
      _from_model_config: true,
      eos_token_id: 3,
    });
  });

  it('names every fault at once', () => {
    const faulty = {
      do_sample: 'yes',
      temperature: -1,
      top_k: 1.5,
      top_p: 0,
      min_p: 2,
      repetition_penalty: 0,
      eos_token_id: 'x',
    };
    let error: unknown;
    try {
      parseGenerationConfig(faulty, 'here.json');
    } catch (reason) {
      error = reason;
    }
    expect(isMoebiusError(error, 'configuration')).toBe(true);
    for (const part of ['here.json', ...Object.keys(faulty)]) expect(String(error)).toContain(part);
  });

  it('refuses what is not an object', () => {
    expect(() => parseGenerationConfig([])).toThrow('must be an object');
  });
});
