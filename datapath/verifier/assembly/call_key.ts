// Keys of lookups whose value is known.
import { mapIndex } from "./current_call";
import { MAP_ARRAY, MAP_PERCPU_ARRAY } from "./map_type";
import { isConst, K_FP, K_NUM } from "./reg";
import { mark } from "./relevance";
import { OPTION_NO_CONSTANT_KEYS, options } from "./options";
import { maps, outerMaps } from "./request";
import { cur, reg } from "./run";
import { tempReg } from "./scratch";
import { readFixed } from "./stack";
import { frameOf, slotTypes, T_SPILL, T_ZERO } from "./state";

/// Whether the lookup whose arguments were checked always finds its element, so that nobody need ask for NULL.
///
/// Sound because elements of the two kinds of arrays are made with the map and never go: array_map_lookup_elem() gives NULL
/// for an index from max_entries on alone, and the map in the request is the very one of the load. The key's bytes lie in
/// the stack of this path, and the helper reads just them. That they are this number is a decision: the places that it was
/// made of become relevant, so that no state with another key is taken for this one. Inner maps are left out: the template
/// need not have as many elements as the map at run time (per-CPU arrays, BPF_F_INNER_MAP), which 6.14 to 6.18 overlook.
///
/// What the kernel sees (get_constant_map_key() in verifier.c, from 6.14 on) is what counts: a number of four bytes saved at
/// the start of a word, or zeros.
export function alwaysFound(i: i32): bool {
  if (options & OPTION_NO_CONSTANT_KEYS || mapIndex < 0 || mapIndex >= outerMaps) return false;
  const m = maps[mapIndex], r = reg(2);
  if (m.type != MAP_ARRAY && m.type != MAP_PERCPU_ARRAY || m.keySize != 4) return false;
  if (r.kind != K_FP || !isConst(r)) return false;
  const at = r.off + <i32> r.bits;
  if (at & 3 || at < -512 || at > -4) return false;
  const f = frameOf(cur, r.frame), k = <u32> ((-at - 1) >> 3);
  if (k >= f.slots) return false;
  const types = slotTypes(f, k), b = <usize> (at & 7);
  let zeros = true;
  for (let n: usize = 0; n < 4; n++) zeros = zeros && load<u8>(types + b + n) == T_ZERO;
  const saved = b == 0 && load<u8>(types + 3) == T_SPILL && load<u8>(types + 4) != T_SPILL;
  if (!zeros && !saved) return false;
  const t = tempReg();
  if (!readFixed(i, r.frame, at, 4, t, false) || t.kind != K_NUM || !isConst(t)) return false;
  if (t.bits >= <u64> m.maxEntries) return false;
  mark(cur.parent, t.from);
  return true;
}
