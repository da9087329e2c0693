/** @file Numbers as people read them. Machines get the numbers themselves, with `--json`. */

const thousands = ['', ' k', ' M', ' G', ' T', ' P'] as const;
const kibi = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** `1234567` as `1.23 M`. */
export function formatCount(value: number): string {
  return scaled(value, 1000, thousands);
}

/** `1536` bytes as `1.50 KiB`. */
export function formatBytes(bytes: number): string {
  const text = scaled(
    bytes,
    1024,
    ['', ...kibi.slice(1)].map((unit) => ` ${unit}`),
  );
  return bytes < 1024 ? `${bytes} B` : text;
}

/** `4.2e9` floating point operations as `4.20 GFLOP`. */
export function formatFlops(flops: number): string {
  return scaled(
    flops,
    1000,
    thousands.map((unit) => `${unit === '' ? ' ' : unit}FLOP`),
  );
}

/** Seconds as `8.2 s`, `3 min 05 s`, `1 h 02 min` or `3 d 04 h`; `?` when nobody knows. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  if (seconds < 59.95) return `${seconds.toFixed(seconds < 9.95 ? 1 : 0)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${pad(minutes % 60)} min`;
  const hours = Math.round(seconds / 3600);
  return `${Math.floor(hours / 24)} d ${pad(hours % 24)} h`;
}

function pad(value: number): string {
  return String(value).padStart(2, '0');
}

function scaled(value: number, base: number, units: readonly string[]): string {
  let index = 0;
  let rest = value;
  while (Math.abs(rest) >= base - base / 2000 && index < units.length - 1) {
    rest /= base;
    index += 1;
  }
  const digits =
    index === 0 && Number.isInteger(value) ? 0 : Math.abs(rest) < 10 ? 2 : Math.abs(rest) < 100 ? 1 : 0;
  return `${rest.toFixed(digits)}${units[index] ?? ''}`;
}
