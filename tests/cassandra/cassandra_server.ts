/**
 * A real Cassandra for the tests: one process, one node, its data in a folder that goes with it.
 * @module
 */

import { cacheOf, JavaServer } from "../java_server.ts";

const CACHE = cacheOf("cassandra");

/** What the JVM must open for Cassandra 5 on Java 17; its own jvm17-server.options has the same. */
const OPENED = [
  "java.base/java.io",
  "java.base/java.lang",
  "java.base/java.lang.ref",
  "java.base/java.lang.reflect",
  "java.base/java.lang.module",
  "java.base/java.math",
  "java.base/java.net",
  "java.base/java.nio",
  "java.base/java.nio.charset",
  "java.base/java.nio.file.spi",
  "java.base/java.util",
  "java.base/java.util.concurrent",
  "java.base/java.util.concurrent.atomic",
  "java.base/java.util.concurrent.locks",
  "java.base/jdk.internal.loader",
  "java.base/jdk.internal.math",
  "java.base/jdk.internal.module",
  "java.base/jdk.internal.ref",
  "java.base/jdk.internal.reflect",
  "java.base/jdk.internal.util",
  "java.base/jdk.internal.util.jar",
  "java.base/jdk.internal.vm",
  "java.base/sun.nio.ch",
  "java.logging/java.util.logging",
  "java.management/com.sun.jmx.remote.security",
  "java.management/javax.management",
  "java.management.rmi/javax.management.remote.rmi",
  "java.rmi/java.rmi",
  "java.rmi/sun.rmi.registry",
  "java.rmi/sun.rmi.server",
  "java.rmi/sun.rmi.transport",
  "java.rmi/sun.rmi.transport.tcp",
  "java.sql/java.sql",
  "jdk.management/com.sun.management.internal",
  "jdk.naming.dns/com.sun.jndi.dns",
];

/** The Python with the driver and cqlsh. */
export const PYTHON = `${CACHE}/venv/bin/python`;
/** Where the Java driver's classes are. */
export const DRIVER_CLASSES = `${CACHE}/driver/*`;
/** The Node driver with its version, as `build` fetches it; Deno runs it. */
export const NODE_DRIVER = "npm:cassandra-driver@4.10.0";
/** The real cqlsh. */
export const CQLSH = `${CACHE}/venv/bin/cqlsh`;

/** Starts one on 127.0.0.1; it takes some 20 s. */
export function startCassandra(port: number): Promise<JavaServer> {
  const opened = OPENED.flatMap((
    it,
  ) => ["--add-opens", `${it}=ALL-UNNAMED`, "--add-exports", `${it}=ALL-UNNAMED`]);
  return JavaServer.start({
    name: "cassandra",
    port,
    files: (directory) => ({ "cassandra.yaml": configuration(directory, port), "logback.xml": LOGBACK }),
    command: (directory) => [
      ...opened,
      ...["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss512k"],
      ...["-Djdk.attach.allowAttachSelf=true", "-Dio.netty.tryReflectionSetAccessible=true"],
      `-Dlogback.configurationFile=${directory}/logback.xml`,
      `-Dcassandra.config=file:${directory}/cassandra.yaml`,
      `-Dcassandra.storagedir=${directory}`,
      ...["-Dcassandra.ring_delay_ms=100", "-Dcassandra.skip_wait_for_gossip_to_settle=0"],
      ...["-cp", `${CACHE}/lib/*`, "org.apache.cassandra.service.CassandraDaemon"],
    ],
    log: "system.log",
  });
}

function configuration(directory: string, port: number): string {
  return `cluster_name: weir
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
data_file_directories: [${directory}/data]
commitlog_directory: ${directory}/commitlog
hints_directory: ${directory}/hints
saved_caches_directory: ${directory}/saved_caches
cdc_raw_directory: ${directory}/cdc_raw
commitlog_sync: periodic
commitlog_sync_period: 10000ms
commitlog_segment_size: 16MiB
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{seeds: "127.0.0.1:7000"}]
endpoint_snitch: SimpleSnitch
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
native_transport_port: ${port}
start_native_transport: true
memtable_allocation_type: heap_buffers
authenticator: AllowAllAuthenticator
authorizer: AllowAllAuthorizer
role_manager: CassandraRoleManager
user_defined_functions_enabled: false
materialized_views_enabled: true
`;
}

const LOGBACK = `<configuration>
  <appender name="FILE" class="ch.qos.logback.core.FileAppender">
    <file>\${cassandra.storagedir}/system.log</file>
    <encoder><pattern>%-5level %date{ISO8601} %logger{1} - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="FILE"/></root>
</configuration>
`;
