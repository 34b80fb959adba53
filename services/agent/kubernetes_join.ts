/**
 * Makes this machine a member of a Kubernetes cluster's Weir without people: its pod's token, shown to the control plane's
 * service `kubernetes`, gives a join token for exactly this node, and that a certificate, as with `weir join`. Afterwards it
 * follows where the control plane is, and joins anew when the cluster has another authority.
 *
 * @module
 */
import {
  Backoff,
  type Clock,
  credentialPaths,
  hostPort,
  type Logger,
  type Membership,
  type Owner,
  parseCertificate,
  parseHostPort,
  parseJoinToken,
  ProblemError,
  publicKeyHash,
  readMembership,
  removeMembership,
  SERVICE_PORTS,
  writeCredentials,
  writeMembership,
} from "@weir/common";
import { createCertificateRequest } from "@weir/common/certificate-request";
import { WeirClient } from "@weir/client";
import { IssueRequest, IssueResponse } from "@weir/proto/certificate";
import { EnrollmentRequest, EnrollmentResponse } from "@weir/proto/kubernetes";
import { type JoinDirectory, readJoinDirectory } from "./join_directory.ts";

/** How often the directory is looked at; the kubelet itself takes about a minute. */
const LOOK_MS = 5000;
/** How often it is tried to join at least. */
const RETRY_MS_MAX = 10_000;

/** What it is built from. */
export interface KubernetesJoinOptions {
  /** Where token, cluster, addresses and authority.crt are. */
  from: string;
  /** The instance's state directory. */
  directory: string;
  /** Whose the credentials are. */
  owner: Owner;
  /** Name of this node in Kubernetes. */
  node: string;
  clock: Clock;
  log: Logger;
  /** Called with what it waits for; "" when for nothing. */
  onWait?: (text: string) => void;
}

/** What a look has changed. */
export type JoinOutcome = "joined" | "moved" | "unchanged";

/** See the module. */
export class KubernetesJoin {
  readonly #options: KubernetesJoinOptions;
  #told = "";

  constructor(options: KubernetesJoinOptions) {
    this.#options = options;
  }

  /** Resolves when this machine is a member, or `signal` aborts. A member needs nobody to answer. */
  async ensure(signal: AbortSignal): Promise<void> {
    const backoff = new Backoff({ delayMsMin: 500, delayMsMax: RETRY_MS_MAX });
    while (!signal.aborted) {
      if (await this.#try() !== undefined) return;
      if (this.#membership() !== undefined) return;
      await this.#options.clock.sleep(backoff.nextMs(), signal);
    }
  }

  /** Follows the directory until `signal` aborts; `onChange` hears when join.json is another. */
  async follow(signal: AbortSignal, onChange: () => Promise<void>): Promise<void> {
    const { clock } = this.#options;
    const backoff = new Backoff({ delayMsMin: LOOK_MS, delayMsMax: 60_000 });
    while (!signal.aborted) {
      const outcome = await this.#try();
      if (outcome === "joined" || outcome === "moved") await onChange();
      if (outcome !== undefined) backoff.reset();
      await clock.sleep(outcome === undefined ? backoff.nextMs() : LOOK_MS, signal);
    }
  }

  /** One look. @throws {ProblemError} what keeps this machine from joining */
  async step(): Promise<JoinOutcome> {
    const { from, directory, node, log } = this.#options;
    const told = readJoinDirectory(from);
    const before = this.#membership();
    if (before === undefined || before.node !== node || !this.#isOf(told)) {
      await this.#join(told);
      return "joined";
    }
    if (before.addresses.join() === told.addresses.join()) return "unchanged";
    writeMembership(directory, { ...before, addresses: told.addresses });
    log.info("The control plane has moved", { addresses: told.addresses });
    return "moved";
  }

  async #try(): Promise<JoinOutcome | undefined> {
    const { log, onWait } = this.#options;
    try {
      const outcome = await this.step();
      this.#told = "";
      onWait?.("");
      return outcome;
    } catch (error) {
      const { message } = error as Error;
      if (message !== this.#told) log.warn("Cannot join the cluster yet", { error: message });
      this.#told = message;
      if (this.#membership() === undefined) onWait?.(message);
      return undefined;
    }
  }

  #membership(): Membership | undefined {
    try {
      return readMembership(this.#options.directory);
    } catch {
      return undefined; // damaged: joining anew writes another
    }
  }

  /** Whether the certificate that this machine has is of the authority that the directory names. */
  #isOf(told: JoinDirectory): boolean {
    try {
      const pem = Deno.readTextFileSync(credentialPaths(this.#options.directory).authority);
      return told.authorityHashes.includes(publicKeyHash(parseCertificate(pem)));
    } catch {
      return false;
    }
  }

  async #join(told: JoinDirectory): Promise<void> {
    const { directory, owner, node, log } = this.#options;
    const enrolled = await this.#enroll(told);
    const token = parseJoinToken(enrolled.joinToken);
    if (!told.authorityHashes.includes(token.authorityHash)) {
      throw new ProblemError("AUTHORITY_WRONG", {
        status: 409,
        detail: "Cannot join: the join token is of another authority than the one that the ConfigMap names",
        found: token.authorityHash,
        expected: told.authorityHashes.join(", "),
      });
    }
    const { keyPem, requestPem } = await createCertificateRequest(node);
    const issued = await firstOf(
      told,
      SERVICE_PORTS["certificate-authority"],
      (client) =>
        client.call("/v1/certificates:issue", {
          request: {
            message: IssueRequest,
            value: { requestPem, node, secret: token.secret, addresses: [] },
          },
          response: IssueResponse,
        }),
    );
    // What an authority before it left is believed no more.
    removeMembership(directory);
    writeCredentials(directory, {
      cert: issued.certificatePem,
      key: keyPem,
      authority: issued.authorityPem,
    }, owner);
    writeMembership(directory, {
      version: 1,
      cluster: issued.cluster,
      node,
      role: "node",
      addresses: told.addresses,
    });
    log.info("This machine has joined the cluster", { cluster: issued.cluster, node });
  }

  async #enroll(told: JoinDirectory): Promise<EnrollmentResponse> {
    const { node } = this.#options;
    const answer = await firstOf(told, SERVICE_PORTS.kubernetes, (client) =>
      client.call("/v1/enrollments", {
        request: { message: EnrollmentRequest, value: { token: told.token, node } },
        response: EnrollmentResponse,
      }));
    if (answer.node === node) return answer;
    throw new ProblemError("NODE_WRONG", {
      status: 409,
      detail: `Cannot join as ${node}: the pod's token is of node ${answer.node}`,
      found: answer.node,
      expected: node,
      action: "Give the node's name in Kubernetes: --node-name, from spec.nodeName",
    });
  }
}

/** The first answer of the control plane's machines; one that cannot be reached is passed over. */
async function firstOf<T>(
  told: JoinDirectory,
  portOffset: number,
  ask: (client: WeirClient) => Promise<T>,
): Promise<T> {
  let fault: unknown;
  for (const address of told.addresses) {
    const { hostname, port } = parseHostPort(address)!;
    const url = `https://${hostPort(hostname, port + portOffset)}`;
    const client = new WeirClient({ url, ca: [told.authorityPem] });
    try {
      return await ask(client);
    } catch (error) {
      fault = error;
    } finally {
      client.close();
    }
  }
  throw fault;
}
