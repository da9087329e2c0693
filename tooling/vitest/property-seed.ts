/**
 * @file One seed for every property test, so that a check that was green stays green for the same code. Look for new
 * counterexamples with `MOEBIUS_PROPERTY_SEED=$RANDOM npm test`; a failure prints its seed either way.
 */
import fc from 'fast-check';

fc.configureGlobal({
  ...fc.readConfigureGlobal(),
  seed: Number(process.env['MOEBIUS_PROPERTY_SEED'] ?? 20_261_122),
});
