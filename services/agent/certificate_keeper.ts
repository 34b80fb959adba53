/**
 * Keeps this machine's certificate good for as long as the agent runs: gets one where there is none (a machine of the
 * control plane asks its own authority), and a new one, with a new key, at half of its life. On a machine that joined it keeps a
 * second one beside it, of role `reader`, for services that only read. Keys never leave this machine; services take the
 * files as they change.
 *
 * @module
 */
import { lchown } from "node:fs/promises";
import {
  Backoff,
  type Clock,
  credentialPaths,
  errorText,
  type Health,
  type Logger,
  type Membership,
  OBSERVER_NAME,
  type Owner,
  parseCertificate,
  ProblemError,
  readCertificate,
  readerDirectory,
  readMembership,
  recoverCredentials,
  type TlsCredentials,
  writeCredentials,
  writeMembership,
} from "@weir/common";
import { createCertificateRequest } from "@weir/common/certificate-request";
import { type Target, WeirClient } from "@weir/client";
import { IssueRequest, IssueResponse, RenewRequest } from "@weir/proto/certificate";

/** How often the dates are looked at: the clock may be set. */
const LOOK_MS_MAX = 60_000;

/** What the keeper is built from. */
export interface CertificateKeeperOptions {
  /** Where the files are: the instance's state directory. */
  directory: string;
  /** Whose the files are. */
  owner: Owner;
  node: string;
  cluster: string;
  /** Of the control plane: address of its own authority, and where this machine listens ("10.0.0.1:7440"). */
  plane?: { authority: Target | string; listen: string };
  clock: Clock;
  health: Health;
  log: Logger;
}

/** Runs in the background, see `run()`. */
export class CertificateKeeper {
  readonly #options: CertificateKeeperOptions;
  /** The authority knows where this machine of the control plane listens now. */
  #announced = false;

  constructor(options: CertificateKeeperOptions) {
    this.#options = options;
  }

  /** Keeps the certificate until `signal` aborts; failures are a condition of readiness and are retried. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, health, log, plane } = this.#options;
    // Its own authority is asked again soon: until it answers nobody can join.
    const backoff = new Backoff({ delayMsMin: 200, delayMsMax: plane === undefined ? LOOK_MS_MAX : 2000 });
    await this.#takeOver();
    health.waitFor("certificate", "waiting for a certificate");
    while (!signal.aborted) {
      let waitMs: number;
      try {
        waitMs = await this.step();
        backoff.reset();
      } catch (error) {
        waitMs = backoff.nextMs();
        this.#tell(error as ProblemError);
        log.warn("Certificate was not renewed", { error: errorText(error), retryMs: waitMs });
      }
      await clock.sleep(waitMs, signal);
    }
  }

  /** The services may run as another user than they did when the files were written. */
  async #takeOver(): Promise<void> {
    const { directory, owner } = this.#options;
    for (const one of [directory, readerDirectory(directory)]) {
      for (const path of Object.values(credentialPaths(one))) {
        await lchown(path, owner.uid, owner.gid).catch(() => {}); // there is none yet
      }
    }
  }

  /** Does what is due now; answers milliseconds until it is worth looking again. */
  async step(): Promise<number> {
    const { clock, health } = this.#options;
    const found = this.#read();
    const nowMs = clock.nowMs();
    const dueMs = found === undefined || !this.#isRight(found) ? 0 : renewalUnixMs(found) - nowMs;
    if (dueMs > 0) {
      await this.#keepReader(found!);
      health.ok("certificate", `until ${new Date(found!.facts.notAfterUnixMs).toISOString()}`);
      return Math.min(dueMs, LOOK_MS_MAX);
    }
    await this.#renew(found);
    return 0;
  }

  #read(): TlsCredentials | undefined {
    try {
      return recoverCredentials(this.#options.directory);
    } catch (error) {
      // What a machine of the control plane cannot use it replaces; another one cannot.
      if (this.#options.plane === undefined) throw error;
      return undefined;
    }
  }

  /** Whether the certificate still says what this machine is. */
  #isRight({ cert, facts }: TlsCredentials): boolean {
    const { plane, node, cluster } = this.#options;
    if (plane === undefined) return true;
    if (!this.#announced) return false;
    const host = plane.listen.slice(0, plane.listen.lastIndexOf(":")).replace(/^\[|\]$/g, "");
    const certificate = parseCertificate(cert);
    return facts.cluster === cluster && facts.peer.node === node && facts.peer.role === "control-plane" &&
      (certificate.checkIP(host) ?? certificate.checkHost(host)) !== undefined;
  }

  async #renew(found: TlsCredentials | undefined): Promise<void> {
    const { directory, owner, node, plane, log } = this.#options;
    const { keyPem, requestPem } = await createCertificateRequest(node);
    const answer = plane === undefined
      ? await this.#ask(this.#planeTarget(found), "/v1/certificates:renew", {
        message: RenewRequest,
        value: { requestPem },
      })
      : await this.#ask(plane.authority, "/v1/certificates:issue", {
        message: IssueRequest,
        value: { requestPem, node, role: "control-plane", addresses: [plane.listen] },
      });
    writeCredentials(directory, {
      cert: answer.certificatePem,
      key: keyPem,
      authority: answer.authorityPem,
    }, owner);
    this.#rememberPlane(answer.addresses);
    this.#announced = true;
    log.info("Certificate renewed", { node, cluster: answer.cluster });
  }

  /**
   * The reader's certificate is newer than the machine's own, so it lives as long, and what removes the one removes the other.
   * @throws {ProblemError} READER_REFUSED: an older control plane knows no readers
   */
  async #keepReader(own: TlsCredentials): Promise<void> {
    const { owner, node, plane, log } = this.#options;
    const directory = readerDirectory(this.#options.directory);
    if (isReaderOf(own, readOrNone(directory))) return;
    const { keyPem, requestPem } = await createCertificateRequest(node);
    const answer = plane === undefined
      ? await this.#ask(this.#planeTarget(own), "/v1/certificates:renew", {
        message: RenewRequest,
        value: { requestPem, role: "reader" },
      })
      : await this.#ask(plane.authority, "/v1/certificates:issue", {
        message: IssueRequest,
        value: { requestPem, node, role: "reader" },
      });
    if (readCertificate(parseCertificate(answer.certificatePem)).peer.role !== "reader") {
      throw new ProblemError("READER_REFUSED", {
        status: 409,
        detail: "Cannot get a certificate for what only reads: the control plane gave another one",
        found: answer.role,
        expected: "reader",
        action: "Upgrade the control plane before its nodes",
      });
    }
    // Root's: who reads in it replaces nothing.
    Deno.mkdirSync(directory, { recursive: true, mode: 0o750 });
    Deno.chownSync(directory, Deno.uid(), owner.gid);
    writeCredentials(directory, {
      cert: answer.certificatePem,
      key: keyPem,
      authority: answer.authorityPem,
    }, owner);
    log.info("Certificate renewed", { node, role: "reader" });
  }

  async #ask(
    target: Target | string,
    path: string,
    request: { message: typeof RenewRequest | typeof IssueRequest; value: object },
  ): Promise<IssueResponse> {
    const client = new WeirClient(target);
    try {
      return await client.call(path, { request: request as never, response: IssueResponse });
    } finally {
      client.close();
    }
  }

  #planeTarget(found: TlsCredentials | undefined): Target {
    const { directory } = this.#options;
    const membership = readMembership(directory);
    if (membership === undefined || found === undefined) {
      throw new ProblemError("NOT_A_MEMBER", {
        status: 409,
        detail: `Cannot renew the certificate: ${credentialPaths(directory).cert} is not there`,
        action: "Join again: weir join TOKEN",
      });
    }
    return {
      url: membership.addresses.map((address) => `https://${address}`).join(","),
      tlsDirectory: directory,
    };
  }

  /** Machines of the control plane come and go: the next start of the agent knows those that there are now. */
  #rememberPlane(addresses: readonly string[]): void {
    const { directory } = this.#options;
    const membership = readMembership(directory);
    if (membership === undefined || addresses.length === 0) return;
    const next: Membership = { ...membership, addresses };
    if (JSON.stringify(next) !== JSON.stringify(membership)) writeMembership(directory, next);
  }

  #tell(error: ProblemError): void {
    const { health, clock } = this.#options;
    let until: number | undefined;
    try {
      until = this.#read()?.facts.notAfterUnixMs;
    } catch {
      // There is none that could be used meanwhile.
    }
    const good = until !== undefined && until > clock.nowMs() && !isFinal(error);
    const text = `${error.message}${
      until === undefined ? "" : `; the present one is good until ${new Date(until).toISOString()}`
    }`;
    if (good) health.ok("certificate", text);
    else health.waitFor("certificate", text);
  }
}

/** The credentials in a directory that is filled anew when there is anything wrong with them. */
function readOrNone(directory: string): TlsCredentials | undefined {
  try {
    return recoverCredentials(directory);
  } catch {
    return undefined;
  }
}

function isReaderOf(own: TlsCredentials, found: TlsCredentials | undefined): boolean {
  return found !== undefined && found.authority === own.authority && found.facts.peer.role === "reader" &&
    found.facts.peer.node === own.facts.peer.node && found.facts.issuedUnixMs > own.facts.issuedUnixMs &&
    parseCertificate(found.cert).checkHost(OBSERVER_NAME) !== undefined;
}

/** When a certificate is renewed: half way between its issue and its end. */
function renewalUnixMs({ facts }: TlsCredentials): number {
  const begin = facts.issuedUnixMs || facts.notBeforeUnixMs;
  return begin + (facts.notAfterUnixMs - begin) / 2;
}

function isFinal(error: ProblemError): boolean {
  return error.code === "CERTIFICATE_REMOVED" || error.code === "CERTIFICATE_UNKNOWN";
}
