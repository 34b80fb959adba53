// Options of the request; see request.ts of the host.
export const OPTION_NO_QUOTIENTS: u32 = 32, OPTION_NO_DISTANCES: u32 = 64;
export const OPTION_NO_CONSTANT_KEYS: u32 = 128, OPTION_NO_PRIVATE_STACKS: u32 = 256;
export const OPTION_NO_SIGNS: u32 = 512;
export let options: u32 = 0;

export function setOptions(bits: u32): void {
  options = bits;
}
