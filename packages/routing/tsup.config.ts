import { packageBuild } from '../../tooling/tsup/package-build.ts';

export default packageBuild({
  entries: {
    index: 'src/index.ts',
    'metrics/index': 'src/metrics/index.ts',
    'testing/index': 'src/testing/index.ts',
  },
});
