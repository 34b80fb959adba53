/** A loop that walks the packet until its end, without a bound that a verifier can count. @module */
import type { VerifyReport } from "@weir/verifier";

const PACKET_OUT_OF_BOUNDS = 70, PACKET_OFFSET_UNBOUNDED = 72;
/** No packet is known to be longer; checks beyond prove nothing. */
const PACKET_BYTES_MAX = 65_535;

/** Whether the finding is that of such a loop: the pointer has gone as far as any check can prove. */
export function walksPacket(report: VerifyReport): boolean {
  if (report.code !== PACKET_OUT_OF_BOUNDS && report.code !== PACKET_OFFSET_UNBOUNDED) return false;
  const pointer = report.registers[Number(report.operands[0] ?? -1)];
  const offset = Number(report.operands[2] ?? 0);
  return offset >= PACKET_BYTES_MAX && (pointer === undefined || pointer.offset >= PACKET_BYTES_MAX - 64);
}
