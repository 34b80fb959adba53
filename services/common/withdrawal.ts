/**
 * What a cluster does not believe any more, as a statement that the authority has signed: a machine that was removed, a token that
 * was revoked or used up. Every machine keeps a copy and hands it back to an authority that does not know it: a database that was
 * restored has forgotten it. The signature lets nobody else make one, so it does not matter who hands it back.
 *
 *     ["weir-withdrawal", CLUSTER, KIND, NAME, withdrawn, expires]      as JSON, times in Unix ms; signed ECDSA P-256, SHA-256
 *
 * @module
 */
import { verify, type X509Certificate } from "node:crypto";
import { type Withdrawal, WithdrawalList } from "@weir/proto/certificate";
import { readInputFileSync } from "./input_file.ts";
import { isNotFound, type Owner, replaceFile } from "./membership.ts";

/** Withdrawals that one cluster keeps. */
export const WITHDRAWALS_MAX = 30_000;
const FILE_BYTES_MAX = WITHDRAWALS_MAX * 1024;

/** What is withdrawn: all that was issued to a machine up to then, or a token. */
export type WithdrawalKind = "member" | "token";

/** Name of the object: one per machine or token. */
export function withdrawalName({ kind, name }: Withdrawal): string {
  return `${kind}:${name}`;
}

/** What is signed. */
export function withdrawalBytes(cluster: string, withdrawal: Withdrawal): Uint8Array<ArrayBuffer> {
  const { kind, name, withdrawnUnixS, expiresUnixS } = withdrawal;
  const ms = (seconds: number) => Math.round(seconds * 1000);
  return new TextEncoder().encode(
    JSON.stringify(["weir-withdrawal", cluster, kind, name, ms(withdrawnUnixS), ms(expiresUnixS)]),
  );
}

/** Whether one of these authorities has signed it, for this cluster. */
export function isGenuine(
  withdrawal: Withdrawal,
  { cluster, authorities }: { cluster: string; authorities: readonly X509Certificate[] },
): boolean {
  return authorities.some(({ publicKey: key }) => {
    try {
      return verify(
        "sha256",
        withdrawalBytes(cluster, withdrawal),
        { key, dsaEncoding: "ieee-p1363" },
        withdrawal.signature,
      );
    } catch {
      return false; // no signature, or a key of another kind
    }
  });
}

/** The newest of each name, of those that still say something. */
export function mergeWithdrawals(lists: readonly (readonly Withdrawal[])[], nowS: number): Withdrawal[] {
  const merged = new Map<string, Withdrawal>();
  for (const withdrawal of lists.flat()) {
    const known = merged.get(withdrawalName(withdrawal));
    // Written so that NaN says nothing.
    if (!(withdrawal.expiresUnixS > nowS) || known && known.withdrawnUnixS >= withdrawal.withdrawnUnixS) {
      continue;
    }
    merged.set(withdrawalName(withdrawal), withdrawal);
  }
  return [...merged.values()];
}

/** Where a machine keeps them, in its state directory. */
export function withdrawalsPath(directory: string): string {
  return `${directory}/withdrawals`;
}

/** Reads the file; nothing when there is none. @throws {Error} when it cannot be read */
export function readWithdrawals(path: string): Withdrawal[] {
  try {
    return WithdrawalList.decode(readInputFileSync(path, { bytesMax: FILE_BYTES_MAX })).items;
  } catch (error) {
    if (isNotFound(error)) return [];
    throw error;
  }
}

/** Writes the file, for its owner and group to read. */
export function writeWithdrawals(path: string, items: readonly Withdrawal[], owner: Owner): void {
  replaceFile(path, WithdrawalList.encode(WithdrawalList.create({ items: [...items] })), 0o640, owner);
}
