// The one finding of a run: the first failure wins. Every check answers false after calling `fail`.

export let failCode: i32 = 0;
export let failInsn: i32 = -1;
export let lostAt: i32 = -1;
export let operandCount: i32 = 0;
export const operandKind: StaticArray<u8> = [0, 0, 0, 0, 0, 0, 0, 0];
export const operandInt: StaticArray<i64> = [0, 0, 0, 0, 0, 0, 0, 0];
export const operandText: StaticArray<string> = ["", "", "", "", "", "", "", ""];
export function fail(code: i32, insn: i32): bool {
  if (failCode == 0) {
    failCode = code;
    failInsn = insn;
    operandCount = 0;
  }
  return false;
}

/// Appends an operand to the finding that was just made.
export function opI(v: i64): void {
  if (operandCount < 8) {
    operandKind[operandCount] = 0;
    operandInt[operandCount++] = v;
  }
}

export function opS(v: string): void {
  if (operandCount < 8) {
    operandKind[operandCount] = 1;
    operandText[operandCount++] = v;
  }
}

export function fail1(code: i32, insn: i32, a: i64): bool {
  if (failCode) return false;
  fail(code, insn);
  opI(a);
  return false;
}

export function fail2(code: i32, insn: i32, a: i64, b: i64): bool {
  if (failCode) return false;
  fail1(code, insn, a);
  opI(b);
  return false;
}

export function failS(code: i32, insn: i32, a: string): bool {
  if (failCode) return false;
  fail(code, insn);
  opS(a);
  return false;
}

export function failIS(code: i32, insn: i32, a: i64, b: string): bool {
  if (failCode) return false;
  fail1(code, insn, a);
  opS(b);
  return false;
}

export function setLostAt(insn: i32): void {
  lostAt = insn;
}
