/* wolfSSL as a device and as a server, for the interoperation stories:
 *
 *   wolfssl client|server HOST PORT SUITE CERTIFICATE KEY TRUST
 *
 * The client does a handshake, sends GET /.well-known/core and prints the answer. The server takes port 0, prints the port on which it listens, and
 * serves one client: a handshake with both certificates, and an answer to each GET until the client closes. Both exit with 0 only if all of this
 * happened. */

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>

#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The longest silence of a client. */
#define SILENCE_MILLISECONDS_MAX 80000

static void fail(const char *what, WOLFSSL *ssl, int code) {
    char text[WOLFSSL_MAX_ERROR_SZ] = "";
    int error = ssl ? wolfSSL_get_error(ssl, code) : 0;
    fprintf(stderr, "%s failed: %d %s\n", what, error, error ? wolfSSL_ERR_error_string(error, text) : "");
    exit(1);
}

static int open_socket(const char *host, const char *port, int listens) {
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICHOST}, *found;
    if (getaddrinfo(host, port, &hints, &found)) fail("getaddrinfo", NULL, 0);
    int fd = socket(found->ai_family, SOCK_DGRAM, 0);
    int done = listens ? bind(fd, found->ai_addr, found->ai_addrlen) : connect(fd, found->ai_addr, found->ai_addrlen);
    if (fd < 0 || done) fail("socket", NULL, 0);
    freeaddrinfo(found);
    return fd;
}

/* Prints the port, then waits for the first datagram, which stays in the socket, and connects the socket to its sender. */
static void await_peer(int fd) {
    struct sockaddr_storage own, peer;
    socklen_t length = sizeof own;
    char host[64], port[8], peeked;
    if (getsockname(fd, (struct sockaddr *)&own, &length)) fail("getsockname", NULL, 0);
    getnameinfo((struct sockaddr *)&own, length, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    printf("listening on port %s\n", port);
    fflush(stdout);
    length = sizeof peer;
    if (recvfrom(fd, &peeked, 1, MSG_PEEK, (struct sockaddr *)&peer, &length) < 0) fail("recvfrom", NULL, 0);
    if (connect(fd, (struct sockaddr *)&peer, length)) fail("connect", NULL, 0);
}

static void ask(WOLFSSL *ssl) {
    static const char get[] = "\x41\x01\x12\x34\x77\xbb.well-known\x04" "core"; /* CON, token 77 */
    unsigned char answer[1500];
    struct pollfd readable = {.fd = wolfSSL_get_fd(ssl), .events = POLLIN};
    do { /* repeat until there is an answer: a link may lose the request or the answer */
        int sent = wolfSSL_write(ssl, get, sizeof get - 1);
        if (sent <= 0) fail("wolfSSL_write", ssl, sent);
    } while (poll(&readable, 1, 2000) == 0);
    int length = wolfSSL_read(ssl, answer, sizeof answer);
    if (length < 5) fail("wolfSSL_read", ssl, length);
    printf("answered %d.%02d: %.*s\n", answer[1] >> 5, answer[1] & 31, length - 5, answer + 5);
}

static void serve(WOLFSSL *ssl) {
    static const char content[] = "\xc1\x28\xff</.well-known/est/sen>;rt=\"ace.est.sen\""; /* Content-Format 40 */
    unsigned char request[1500], answer[128];
    struct pollfd readable = {.fd = wolfSSL_get_fd(ssl), .events = POLLIN};
    for (int answers = 0;; answers++) { /* a link may lose an answer: the client sends its request again */
        int has_come = wolfSSL_pending(ssl) > 0 || poll(&readable, 1, SILENCE_MILLISECONDS_MAX) > 0;
        int length = has_come ? wolfSSL_read(ssl, request, sizeof request) : 0;
        if (length <= 0 && answers) return; /* its close_notify, or its silence */
        if (length < 4 || request[1] != 1) fail("wolfSSL_read of a GET", ssl, length);
        int head = 4 + (request[0] & 15); /* with its token */
        memcpy(answer, request, head);
        answer[0] = 0x60 | (request[0] & 15); /* ACK */
        answer[1] = 0x45;                     /* 2.05 */
        memcpy(answer + head, content, sizeof content - 1);
        int sent = wolfSSL_write(ssl, answer, head + (int)sizeof content - 1);
        if (sent <= 0) fail("wolfSSL_write", ssl, sent);
    }
}

int main(int count, char **arguments) {
    if (count != 8) return fprintf(stderr, "wolfssl client|server HOST PORT SUITE CERTIFICATE KEY TRUST\n"), 2;
    int is_server = !strcmp(arguments[1], "server");
    wolfSSL_Init();
    WOLFSSL_CTX *context = wolfSSL_CTX_new(is_server ? wolfDTLSv1_2_server_method() : wolfDTLSv1_2_client_method());
    int good = wolfSSL_CTX_set_cipher_list(context, arguments[4]) == WOLFSSL_SUCCESS &&
               wolfSSL_CTX_use_certificate_chain_file(context, arguments[5]) == WOLFSSL_SUCCESS &&
               wolfSSL_CTX_use_PrivateKey_file(context, arguments[6], WOLFSSL_FILETYPE_PEM) == WOLFSSL_SUCCESS &&
               wolfSSL_CTX_load_verify_locations(context, arguments[7], NULL) == WOLFSSL_SUCCESS;
    if (!good) fail("configuration", NULL, 0);
    wolfSSL_CTX_set_verify(context, WOLFSSL_VERIFY_PEER | WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    int fd = open_socket(arguments[2], arguments[3], is_server);
    if (is_server) await_peer(fd);
    WOLFSSL *ssl = wolfSSL_new(context);
    wolfSSL_set_dtls_fd_connected(ssl, fd); /* or a repetition goes out with an address that is not there */
    int done = is_server ? wolfSSL_accept(ssl) : wolfSSL_connect(ssl);
    if (done != WOLFSSL_SUCCESS) fail("handshake", ssl, done);
    WOLFSSL_X509 *peer = wolfSSL_get_peer_certificate(ssl);
    char *subject = peer ? wolfSSL_X509_NAME_oneline(wolfSSL_X509_get_subject_name(peer), NULL, 0) : NULL;
    printf("%s %s with %s\n", wolfSSL_get_version(ssl), wolfSSL_get_cipher(ssl), subject ? subject : "nobody");
    fflush(stdout); /* a story reads this line while the client is still served */
    is_server ? serve(ssl) : ask(ssl);
    wolfSSL_shutdown(ssl);
    return 0;
}
