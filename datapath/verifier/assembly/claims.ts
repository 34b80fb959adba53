// What all visits of an instruction found in the registers, joined: the containment fuzzer compares real values.
import { newTable, noTable } from "./table";
import { ADD, alu } from "./alu";
import { joinNumbers } from "./number";
import { copyReg, K_NONE, K_NUM, Reg, REG_BYTES, setConst, setKind } from "./reg";
import { options } from "./options";
import { claimCount, claimList, count } from "./request";
import { reg } from "./run";

let table: StaticArray<usize> = noTable<usize>();
export function claimOf(i: i32): usize {
  return changetype<usize>(table) ? table[i] : 0;
}

function wanted(i: i32): bool {
  if (options & 8) return true;
  for (let k: u32 = 0; k < claimCount; k++) if (load<i32>(claimList + k * 4) == i) return true;
  return false;
}

const other: usize = memory.data(REG_BYTES, 8);
const offset: usize = memory.data(REG_BYTES, 8);
function fold(r: Reg): void {
  const t = changetype<Reg>(offset);
  setConst(t, <u64> (<i64> r.off));
  alu(r, t, ADD, false, false);
  r.off = 0;
}

export function recordClaim(i: i32): void {
  if (!changetype<usize>(table)) table = newTable<usize>(count);
  if (!wanted(i)) return;
  let p = table[i];
  if (!p) {
    p = heap.alloc(11 * REG_BYTES);
    table[i] = p;
    for (let r: u32 = 0; r < 11; r++) copyReg(changetype<Reg>(p + r * REG_BYTES), reg(r));
    return;
  }
  for (let r: u32 = 0; r < 11; r++) {
    const a = changetype<Reg>(p + r * REG_BYTES), b = reg(r);
    if (a.kind == K_NONE) continue;
    if (a.kind != b.kind || (a.kind != K_NUM && (a.map != b.map || a.frame != b.frame))) setKind(a, K_NONE);
    else {
      const t = changetype<Reg>(other);
      copyReg(t, b);
      if (a.kind != K_NUM && a.off != b.off) {
        // different fixed offsets: the claim says all of it in the variable part
        fold(a);
        fold(t);
      } else if (a.kind != K_NUM) t.off = a.off;
      joinNumbers(a, t);
      a.flags |= b.flags;
      a.size = min(a.size, b.size);
      if (a.id != b.id) a.id = 0;
    }
  }
}
