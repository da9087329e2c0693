/** @file What the compiled engine depends on: platform, processor features, C library. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { arch, cpus, platform } from 'node:os';

/** The machine, as far as a compiled addon cares. */
export interface Machine {
  /** `${platform}-${arch}`, for example `linux-x64`. */
  readonly platform: string;
  /** 12 hex digits over the processor's feature flags: `-march=native` code runs only where these are equal. */
  readonly processor: string;
  /** True for musl (Alpine), where TensorFlow's wheels do not load. */
  readonly musl: boolean;
}

/** Describes this machine. */
export function describeMachine(): Machine {
  return {
    platform: `${platform()}-${arch()}`,
    processor: createHash('sha256').update(processorFeatures()).digest('hex').slice(0, 12),
    musl: platform() === 'linux' && usesMusl(),
  };
}

/** Looks at `ldd`, a script that names its C library; asks Node only when there is none (that can take seconds). */
function usesMusl(): boolean {
  try {
    return readFileSync('/usr/bin/ldd', 'latin1').includes('musl');
  } catch {
    const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined;
    return report?.header?.glibcVersionRuntime === undefined;
  }
}

function processorFeatures(): string {
  if (platform() === 'linux') {
    try {
      const flags = /^(?:flags|Features)\s*:\s*(.+)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'));
      if (flags?.[1] !== undefined) return flags[1].split(/\s+/).sort().join(' ');
    } catch {
      // No /proc: the model name below is the next best thing.
    }
  }
  return cpus()[0]?.model ?? 'unknown';
}
