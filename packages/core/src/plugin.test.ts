import { describe, expect, it } from 'vitest';

import { isMoebiusError, type MoebiusError } from './errors.ts';
import { createRegistry, definePlugin, isPlugin, type Plugin } from './plugin.ts';

const topK = definePlugin({ kind: 'router', name: 'top-k', pick: (): number => 1 });
const soft = definePlugin({ kind: 'router', name: 'soft', mix: (): string => 'all' });

describe('definePlugin', () => {
  it('returns a frozen, marked copy and leaves its argument alone', () => {
    const source = { kind: 'router', name: 'mine', size: 3 };
    const plugin = definePlugin(source);
    expect(plugin).toEqual(source);
    expect(Object.isFrozen(plugin)).toBe(true);
    expect(Object.isFrozen(source)).toBe(false);
    expect(isPlugin(plugin)).toBe(true);
    expect(isPlugin(source)).toBe(false);
  });

  it.each([
    [{ kind: 'router', name: '' }, 'plugin name'],
    [{ kind: 'router', name: 'TopK' }, 'plugin name'],
    [{ kind: 'router', name: '../x' }, 'plugin name'],
    [{ kind: '', name: 'x' }, 'plugin kind'],
    [{ name: 'x' }, 'plugin kind'],
    [undefined, 'plugin kind'],
  ])('refuses %j', (plugin, subject) => {
    expect(() => definePlugin(plugin as Plugin)).toThrow(`${subject}: must be kebab-case`);
  });
});

describe('isPlugin', () => {
  it('asks for the kind when one is given', () => {
    expect(isPlugin(topK, 'router')).toBe(true);
    expect(isPlugin(topK, 'executor')).toBe(false);
    expect(isPlugin(null)).toBe(false);
    expect(isPlugin('router')).toBe(false);
  });
});

describe('createRegistry', () => {
  const routers = createRegistry([topK, soft]);

  it('gives back the very plug-ins it was made from', () => {
    expect(routers.get('top-k')).toBe(topK);
    expect(routers.get('soft').mix()).toBe('all');
    expect(routers.names()).toEqual(['top-k', 'soft']);
    expect(routers.has('soft')).toBe(true);
    expect(routers.has('toString')).toBe(false);
    expect(routers.plugins).toEqual([topK, soft]);
  });

  it('lists known names and the nearest one for an unknown name', () => {
    try {
      routers.get('topk' as string);
      expect.unreachable();
    } catch (error) {
      expect(isMoebiusError(error, 'registry')).toBe(true);
      expect((error as MoebiusError).message).toBe(
        'router: must be one of top-k, soft, got "topk" (did you mean "top-k"?)',
      );
      expect((error as MoebiusError).details).toMatchObject({ known: ['top-k', 'soft'], nearest: 'top-k' });
    }
    expect(() => routers.get('__proto__' as string)).toThrow(
      'router: must be one of top-k, soft, got "__proto__"',
    );
    expect(() => createRegistry([]).get('x' as string)).toThrow('plugin: must be one of none, got "x"');
  });

  it('refuses two of one name, mixed kinds and undefined entries at creation', () => {
    const again = definePlugin({ kind: 'router', name: 'soft' });
    const other = definePlugin({ kind: 'executor', name: 'local' });
    expect(() => createRegistry([soft, again])).toThrow(
      'registry of router: names must be unique, got "soft" twice',
    );
    expect(() => createRegistry([soft, other])).toThrow('got "local" of kind "executor"');
    expect(() => createRegistry([{ kind: 'router', name: 'plain' }])).toThrow(
      'must be made by definePlugin, got "plain"',
    );
    expect(() => createRegistry([undefined as unknown as Plugin])).toThrow('got nothing');
  });
});
