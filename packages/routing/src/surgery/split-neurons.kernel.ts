/** @file Loops that group neurons: balanced nearest centres, and swaps that keep more of a graph inside its groups. */

/** What is grouped. */
export interface Points {
  /** Float32Array `[count, width]`. */
  readonly data: Float32Array;
  /** Points. */
  readonly count: number;
  /** Numbers of a point. */
  readonly width: number;
}

/** Squared distances of every point to every centre: Float64Array `[count, centres]`. */
export function squaredDistances({ data, count, width }: Points, centres: Float64Array): Float64Array {
  const groups = centres.length / width;
  const distances = new Float64Array(count * groups);
  for (let p = 0; p < count; p += 1) {
    for (let c = 0; c < groups; c += 1) {
      let sum = 0;
      for (let d = 0; d < width; d += 1) {
        const difference = data[p * width + d]! - centres[c * width + d]!;
        sum += difference * difference;
      }
      distances[p * groups + c] = sum;
    }
  }
  return distances;
}

/**
 * Gives every group `count / groups` points: the closest pair of point and group first, ties to the lowest index.
 *
 * @param distances - Float64Array `[count, groups]`
 * @returns the group of every point, and the sum of the distances chosen
 */
export function assignBalanced(
  distances: Float64Array,
  groups: number,
): { readonly group: Int32Array; readonly cost: number } {
  const count = distances.length / groups;
  const order = Float64Array.from(distances.keys()).sort((a, b) => distances[a]! - distances[b]! || a - b);
  const group = new Int32Array(count).fill(-1);
  const room = new Int32Array(groups).fill(count / groups);
  let cost = 0;
  for (let i = 0; i < order.length; i += 1) {
    const pair = order[i]!;
    const point = Math.floor(pair / groups);
    const to = pair % groups;
    if (group[point]! >= 0 || room[to]! === 0) continue;
    group[point] = to;
    room[to] = room[to]! - 1;
    cost += distances[pair]!;
  }
  return { group, cost };
}

/** The mean of every group's points: Float64Array `[groups, width]`. */
export function centresOf({ data, count, width }: Points, group: Int32Array, groups: number): Float64Array {
  const centres = new Float64Array(groups * width);
  const size = count / groups;
  for (let p = 0; p < count; p += 1) {
    const at = group[p]! * width;
    for (let d = 0; d < width; d += 1) centres[at + d] = centres[at + d]! + data[p * width + d]! / size;
  }
  return centres;
}

/** First centres: one point, then always the point that is farthest from those already taken. */
export function farthestPoints(points: Points, groups: number, first: number): Float64Array {
  const { data, count, width } = points;
  const centres = new Float64Array(groups * width);
  const nearest = new Float64Array(count).fill(Infinity);
  let chosen = first;
  for (let c = 0; c < groups; c += 1) {
    const centre = Float64Array.from(data.subarray(chosen * width, (chosen + 1) * width));
    centres.set(centre, c * width);
    const distances = squaredDistances(points, centre);
    let farthest = 0;
    for (let p = 0; p < count; p += 1) {
      if (distances[p]! < nearest[p]!) nearest[p] = distances[p]!;
      if (nearest[p]! > nearest[farthest]!) farthest = p;
    }
    chosen = farthest;
  }
  return centres;
}

/**
 * Groups that grow: each begins with the free node of the most weight, then takes the free node that is tied to it most.
 *
 * @param weights - Float32Array `[count, count]`, symmetric; the diagonal is not looked at
 * @returns the group of every node
 */
export function growGroups(weights: Float32Array, groups: number): Int32Array {
  const count = Math.sqrt(weights.length);
  const group = new Int32Array(count).fill(-1);
  const total = new Float64Array(count);
  for (let a = 0; a < count; a += 1) {
    for (let b = 0; b < count; b += 1) if (a !== b) total[a] = total[a]! + weights[a * count + b]!;
  }
  for (let g = 0; g < groups; g += 1) {
    const tie = new Float64Array(count);
    for (let taken = 0; taken < count / groups; taken += 1) {
      const score = taken === 0 ? total : tie;
      let best = -1;
      for (let a = 0; a < count; a += 1) {
        if (group[a]! < 0 && (best < 0 || score[a]! > score[best]!)) best = a;
      }
      group[best] = g;
      for (let a = 0; a < count; a += 1) tie[a] = tie[a]! + weights[best * count + a]!;
    }
  }
  return group;
}

/**
 * Swaps two nodes of different groups as long as that keeps more weight inside the groups (Kernighan and Lin's move), over
 * at most `passes` rounds. Afterwards, unless the rounds ran out, no swap of two nodes helps.
 *
 * @param group - changed
 */
export function improveGroupsInto(
  group: Int32Array,
  weights: Float32Array,
  groups: number,
  passes: number,
): void {
  const count = group.length;
  const tie = new Float64Array(count * groups);
  for (let a = 0; a < count; a += 1) {
    for (let b = 0; b < count; b += 1) {
      if (a !== b) tie[a * groups + group[b]!] = tie[a * groups + group[b]!]! + weights[a * count + b]!;
    }
  }
  for (let pass = 0, hasMoved = true; pass < passes && hasMoved; pass += 1) {
    hasMoved = false;
    for (let a = 0; a < count; a += 1) {
      let best = -1;
      let bestGain = 1e-9;
      for (let b = 0; b < count; b += 1) {
        const [from, to] = [group[a]!, group[b]!];
        if (from === to) continue;
        const gain =
          tie[a * groups + to]! -
          tie[a * groups + from]! +
          (tie[b * groups + from]! - tie[b * groups + to]!) -
          2 * weights[a * count + b]!;
        if (gain > bestGain) [best, bestGain] = [b, gain];
      }
      if (best < 0) continue;
      hasMoved = true;
      const [from, to] = [group[a]!, group[best]!];
      for (let n = 0; n < count; n += 1) {
        const change =
          (n === a ? 0 : weights[n * count + a]!) - (n === best ? 0 : weights[n * count + best]!);
        tie[n * groups + from] = tie[n * groups + from]! - change;
        tie[n * groups + to] = tie[n * groups + to]! + change;
      }
      [group[a], group[best]] = [to, from];
    }
  }
}

/**
 * Counts of pairs: at how many tokens both neurons are among the most active ones.
 *
 * @param hidden - Float32Array `[tokens, neurons]`; activity is its magnitude
 * @param most - neurons that count as active at a token
 * @returns Float32Array `[neurons, neurons]`
 */
export function countPairsOf(hidden: Float32Array, neurons: number, most: number): Float32Array {
  const counts = new Float32Array(neurons * neurons);
  const tokens = hidden.length / neurons;
  const order = new Int32Array(neurons);
  for (let t = 0; t < tokens; t += 1) {
    const row = hidden.subarray(t * neurons, (t + 1) * neurons);
    for (let n = 0; n < neurons; n += 1) order[n] = n;
    order.sort((a, b) => Math.abs(row[b]!) - Math.abs(row[a]!) || a - b);
    for (let i = 0; i < most; i += 1) {
      for (let j = 0; j < most; j += 1) {
        if (i !== j) counts[order[i]! * neurons + order[j]!] = counts[order[i]! * neurons + order[j]!]! + 1;
      }
    }
  }
  return counts;
}
