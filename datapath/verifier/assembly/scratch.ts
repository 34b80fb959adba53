// Registers for intermediate values.
import { Reg, REG_BYTES } from "./reg";

const scratch: usize = memory.data(REG_BYTES, 8);
const scratch2: usize = memory.data(REG_BYTES, 8);
export function tempReg(): Reg {
  return changetype<Reg>(scratch);
}

export function tempReg2(): Reg {
  return changetype<Reg>(scratch2);
}
