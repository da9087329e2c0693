/** @file How `generate` draws: flags, else what the model's generation_config.json recommends, else our defaults. */
import type { GenerationConfig } from '@moebius/model';

/** Flags; absent ones leave the choice to the model's folder. */
export interface SamplingFlags {
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
  readonly presencePenalty?: number;
  readonly frequencyPenalty?: number;
}

/** Every value given. */
export type Sampling = Required<SamplingFlags>;

/** Where neither flag nor folder says anything. */
export const defaultSampling: Sampling = {
  temperature: 0.8,
  topK: 0,
  topP: 0.95,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
};

/**
 * The flags, completed. A folder that recommends anything about drawing (other than `do_sample: false`) replaces all of
 * our defaults for temperature and filters: what it does not name is off, as in Hugging Face (whose top-k of 50 for
 * files without one we do not take over).
 */
export function resolveSampling(flags: SamplingFlags, generation: GenerationConfig): Sampling {
  const { do_sample, temperature, top_k, top_p, min_p, repetition_penalty } = generation;
  const says = [temperature, top_k, top_p, min_p].some((value) => value !== undefined) || do_sample === true;
  const base = says ? { ...defaultSampling, temperature: 1, topP: 1 } : defaultSampling;
  const recommended: { [K in keyof SamplingFlags]: number | undefined } = {
    temperature: do_sample === false ? 0 : temperature,
    topK: top_k,
    topP: top_p,
    minP: min_p,
    repetitionPenalty: repetition_penalty,
  };
  return { ...base, ...withoutAbsent(recommended), ...withoutAbsent(flags) };
}

function withoutAbsent(values: { readonly [K in keyof SamplingFlags]: number | undefined }): SamplingFlags {
  const names = Object.keys(defaultSampling) as (keyof Sampling)[];
  return Object.fromEntries(
    names.flatMap((name) => (values[name] === undefined ? [] : [[name, values[name]]])),
  );
}
