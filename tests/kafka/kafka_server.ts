/**
 * A real Kafka broker for the tests: one process that is its own controller, its data in a folder that goes with it.
 * @module
 */

import { cacheOf, JavaServer } from "../java_server.ts";

const CACHE = cacheOf("kafka");

/** The Python with both clients. */
export const PYTHON = `${CACHE}/venv/bin/python`;

/** With its version, as `build` fetches it. */
export const KAFKAJS = "npm:kafkajs@2.2.4";

/** Where the broker's and the Java client's classes are. */
export const CLASSES = `${CACHE}/lib/*`;

/** Ports of 127.0.0.1. */
export interface KafkaPorts {
  /** Whose clients are sent to `proxy`. */
  readonly server: number;
  readonly proxy: number;
  /** For those who go past the proxy. */
  readonly direct: number;
  readonly controller: number;
}

/** Starts one. */
export function startKafka(ports: KafkaPorts): Promise<JavaServer> {
  const java = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", CLASSES];
  const properties = (directory: string) => `${directory}/server.properties`;
  return JavaServer.start({
    name: "kafka",
    port: ports.direct,
    files: (directory) => ({ "server.properties": configuration(directory, ports) }),
    prepare: (directory) => [
      ...java,
      ...["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", properties(directory)],
    ],
    command: (directory) => [...java, "kafka.Kafka", properties(directory)],
  });
}

function configuration(directory: string, { server, proxy, direct, controller }: KafkaPorts): string {
  return `process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:${controller}
listeners=PROXIED://127.0.0.1:${server},DIRECT://127.0.0.1:${direct},CONTROLLER://127.0.0.1:${controller}
advertised.listeners=PROXIED://127.0.0.1:${proxy},DIRECT://127.0.0.1:${direct}
listener.security.protocol.map=PROXIED:PLAINTEXT,DIRECT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=DIRECT
controller.listener.names=CONTROLLER
log.dirs=${directory}/data
num.partitions=2
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
message.max.bytes=8000000
`;
}
