/**
 * @file Picks the store of the active engine.
 */
import { createHostKvStore } from './host-kv-store.ts';
import type { KvStore, KvStoreSizes } from './kv-store.ts';

/** An empty store of the active engine. */
export function createKvStore(sizes: KvStoreSizes): KvStore {
  return createHostKvStore(sizes);
}
