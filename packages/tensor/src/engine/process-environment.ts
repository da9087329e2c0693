/**
 * @file The only place that writes environment variables: TensorFlow reads its thread counts and log level from them
 * while its library loads, and has no other door.
 */

/** Variables to set before TensorFlow's library is loaded. */
export interface LoadEnvironment {
  /** Threads inside one operation; TensorFlow's own choice (all cores) when undefined. */
  readonly threads: number | undefined;
}

/**
 * Sets what TensorFlow reads while loading. A value that the user has set stays, except thread counts asked for.
 */
export function prepareLoadEnvironment(options: LoadEnvironment): void {
  process.env['TF_CPP_MIN_LOG_LEVEL'] ??= '2';
  if (options.threads === undefined) return;
  for (const name of ['TF_NUM_INTRAOP_THREADS', 'TF_NUM_INTEROP_THREADS', 'OMP_NUM_THREADS']) {
    process.env[name] = String(options.threads);
  }
}
