// Known bits (tnum): `bits` where `unk` is clear, anything where it is set. Results in tB (bits) and tM (mask).

export let tB: u64 = 0;
export let tM: u64 = 0;
export function tAdd(ab: u64, am: u64, bb: u64, bm: u64): void {
  const sm = am + bm, sv = ab + bb, sigma = sm + sv, chi = sigma ^ sv, mu = chi | am | bm;
  tB = sv & ~mu;
  tM = mu;
}

export function tSub(ab: u64, am: u64, bb: u64, bm: u64): void {
  const dv = ab - bb, alpha = dv + am, beta = dv - bm, chi = alpha ^ beta, mu = chi | am | bm;
  tB = dv & ~mu;
  tM = mu;
}

export function tMul(ab: u64, am: u64, bb: u64, bm: u64): void {
  let accB: u64 = ab * bb, accM: u64 = 0;
  while (ab != 0 || am != 0) {
    if (ab & 1) {
      tAdd(0, accM, 0, bm);
      accM = tM;
    } else if (am & 1) {
      tAdd(0, accM, 0, bb | bm);
      accM = tM;
    }
    ab >>= 1;
    am >>= 1;
    bb <<= 1;
    bm <<= 1;
  }
  tAdd(accB, 0, 0, accM);
}

export function tRange(lo: u64, hi: u64): void {
  const chi = lo ^ hi;
  if (chi == 0) {
    tB = lo;
    tM = 0;
    return;
  }
  const width = 64 - clz(chi);
  if (width > 63) {
    tB = 0;
    tM = u64.MAX_VALUE;
    return;
  }
  const delta: u64 = (<u64> 1 << width) - 1;
  tB = lo & ~delta;
  tM = delta;
}
