// Registers for intermediate values.
import { Reg, REG_BYTES } from "./reg";

const scratch: StaticArray<u64> = new StaticArray<u64>(REG_BYTES / 8);
const scratch2: StaticArray<u64> = new StaticArray<u64>(REG_BYTES / 8);
export function tempReg(): Reg {
  return changetype<Reg>(changetype<usize>(scratch));
}

export function tempReg2(): Reg {
  return changetype<Reg>(changetype<usize>(scratch2));
}
