/** @file What a gate cannot do without: token ids, domains. */
import { MoebiusError, formatFault } from '@moebius/core';
import { assertCount } from '@moebius/tensor';

import type { RouterOptions } from '../define-router.ts';

/** Who asks. */
export interface GivenRequest {
  /** Of the router. */
  readonly router: string;
  /** `T`. */
  readonly tokens: number;
}

/**
 * Ids of the tokens.
 *
 * @returns Int32Array `[T]`, borrowed
 * @throws `configuration` when nobody gave them
 */
export function givenIds({ ids, layer }: RouterOptions, { router, tokens }: GivenRequest): Int32Array {
  if (ids === undefined) {
    throw new MoebiusError({
      code: 'configuration',
      message: `${placeOf(layer, router)}: ids must be given, got none (pass the token ids of the batch in options.ids)`,
      details: { router, layer: layer ?? -1 },
    });
  }
  assertCount(ids.length, tokens, `${placeOf(layer, router)} ids length`);
  return ids;
}

/**
 * Domains of the tokens, each in `0 … domains - 1`; `otherwise` for all where the caller gave none. Those of masked tokens are not looked at.
 *
 * @returns Int32Array `[T]`
 * @throws `configuration` when nobody gave them and there is no `otherwise`, `data` on one out of range
 */
export function givenDomains(
  { domain, layer, mask }: RouterOptions,
  {
    router,
    tokens,
    domains,
    otherwise,
  }: GivenRequest & { readonly domains: number; readonly otherwise: number | null },
): Int32Array {
  const place = placeOf(layer, router);
  if (domain === undefined && otherwise !== null) return new Int32Array(tokens).fill(otherwise);
  if (domain === undefined) {
    throw new MoebiusError({
      code: 'configuration',
      message: `${place}: domain must be given, got none (pass the domain of each token with the batch, or set option "otherwise")`,
      details: { router, layer: layer ?? -1 },
    });
  }
  assertCount(domain.length, tokens, `${place} domain length`);
  const at = domain.findIndex((entry, t) => mask?.[t] !== 0 && !(entry >= 0 && entry < domains));
  if (at < 0) return domain;
  const fault = {
    path: `domain[${at}]`,
    expectation: `must be in 0…${domains - 1}`,
    got: String(domain[at]),
  };
  throw new MoebiusError({
    code: 'data',
    message: `${place}: ${formatFault(fault)}`,
    details: { router, layer: layer ?? -1, token: at, domain: domain[at] ?? -1, domains },
  });
}

function placeOf(layer: number | undefined, router: string): string {
  return `${layer === undefined ? '' : `layers[${layer}] `}router "${router}"`;
}
