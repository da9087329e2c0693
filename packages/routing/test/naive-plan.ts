import type { DispatchPlan } from '../src/index.ts';

/** The obvious planner: lists of lists. `choices[t]` are the experts of token t, best first. */
export function naivePlan(
  choices: readonly (readonly number[])[],
  experts: number,
): Omit<DispatchPlan, 'stats'> {
  const pairs: { token: number; expert: number }[] = [];
  for (let expert = 0; expert < experts; expert += 1) {
    for (const [token, list] of choices.entries()) if (list.includes(expert)) pairs.push({ token, expert });
  }
  const offsets = Array.from(
    { length: experts + 1 },
    (_, e) => pairs.filter((pair) => pair.expert < e).length,
  );
  const slot = choices.flatMap((list, token) =>
    list.map((expert) => pairs.findIndex((pair) => pair.token === token && pair.expert === expert)),
  );
  const tokenOffsets = [0, ...choices.map((_, t) => choices.slice(0, t + 1).flat().length)];
  return {
    tokens: choices.length,
    experts,
    offsets: Int32Array.from(offsets),
    token: Int32Array.from(pairs, (pair) => pair.token),
    source: Int32Array.from(pairs, (pair) => pair.token * experts + pair.expert),
    tokenOffsets: Int32Array.from(tokenOffsets),
    slot: Int32Array.from(slot),
  };
}
