// Pion as a device and as a server, for the interoperation stories:
//
//	pion client|server HOST PORT SUITE CERTIFICATE KEY TRUST MTU
//
// The client does a handshake, sends GET /.well-known/core and prints the answer. The server takes port 0, prints the port on which it listens, and
// serves one client: a handshake with both certificates, and an answer to each GET until the client closes. Both exit with 0 only if all of this
// happened. MTU is the maximum size of its handshake messages, in bytes of a record.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/pion/dtls/v2"
)

var suites = map[string]dtls.CipherSuiteID{
	"CCM_8": dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8,
	"CCM":   dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM,
	"GCM":   dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
}

// The longest time for a handshake, and the longest silence of a client.
const patience = 80 * time.Second

func main() {
	if len(os.Args) != 9 {
		fmt.Fprintln(os.Stderr, "pion client|server HOST PORT SUITE CERTIFICATE KEY TRUST MTU")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4:]); err != nil {
		fmt.Fprintln(os.Stderr, "failed:", err)
		os.Exit(1)
	}
}

func run(role, host, port string, rest []string) error {
	config, err := configure(rest)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	address := &net.UDPAddr{IP: net.ParseIP(host), Port: number}
	if role == "server" {
		return serve(address, config)
	}
	config.ServerName = host
	connection, err := dtls.Dial("udp", address, config)
	if err != nil {
		return err
	}
	defer connection.Close()
	describe(connection)
	return ask(connection)
}

func configure(rest []string) (*dtls.Config, error) {
	suite, known := suites[rest[0]]
	certificate, err := tls.LoadX509KeyPair(rest[1], rest[2])
	if err != nil || !known {
		return nil, fmt.Errorf("suite %s: %w", rest[0], err)
	}
	trust, err := os.ReadFile(rest[3])
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(trust) {
		return nil, errors.New("nothing to trust in " + rest[3])
	}
	mtu, err := strconv.Atoi(rest[4])
	return &dtls.Config{
		Certificates:         []tls.Certificate{certificate},
		CipherSuites:         []dtls.CipherSuiteID{suite},
		ExtendedMasterSecret: dtls.RequireExtendedMasterSecret,
		ClientAuth:           dtls.RequireAndVerifyClientCert,
		RootCAs:              pool,
		ClientCAs:            pool,
		MTU:                  mtu,
		// Pion's own limit is 30 s; on a bad link a device waits longer.
		ConnectContextMaker: func() (context.Context, func()) {
			return context.WithTimeout(context.Background(), patience)
		},
	}, err
}

func describe(connection *dtls.Conn) {
	for _, raw := range connection.ConnectionState().PeerCertificates[:1] {
		if certificate, err := x509.ParseCertificate(raw); err == nil {
			fmt.Printf("associated with %s\n", certificate.Subject)
		}
	}
}

func ask(connection net.Conn) error {
	answer := make([]byte, 1500)
	// Repeat until there is an answer: a link may lose the request or the answer.
	for range [16]struct{}{} {
		// CON, token 77.
		if _, err := connection.Write([]byte("\x41\x01\x12\x34\x77\xbb.well-known\x04core")); err != nil {
			return err
		}
		if err := connection.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		if length, err := connection.Read(answer); err == nil && length >= 5 {
			fmt.Printf("answered %d.%02d: %s\n", answer[1]>>5, answer[1]&31, answer[5:length])
			return nil
		}
	}
	return errors.New("no answer")
}

func serve(address *net.UDPAddr, config *dtls.Config) error {
	listener, err := dtls.Listen("udp", address, config)
	if err != nil {
		return err
	}
	defer listener.Close()
	fmt.Printf("listening on port %d\n", listener.Addr().(*net.UDPAddr).Port)
	connection, err := listener.Accept()
	if err != nil {
		return err
	}
	defer connection.Close()
	describe(connection.(*dtls.Conn))
	// A link may lose an answer: the client sends its request again.
	for answers := 0; ; answers++ {
		request := make([]byte, 1500)
		if err := connection.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		length, err := connection.Read(request)
		if err != nil && answers > 0 {
			return nil // its close_notify, or its silence
		}
		if err != nil || length < 4 || request[1] != 1 {
			return fmt.Errorf("no GET came: %w", err)
		}
		// An ACK with 2.05, the message id and the token of the request, Content-Format 40.
		head := 4 + int(request[0]&15)
		answer := append([]byte{}, request[:head]...)
		answer[0], answer[1] = 0x60|request[0]&15, 0x45
		answer = append(answer, "\xc1\x28\xff</.well-known/est/sen>;rt=\"ace.est.sen\""...)
		if _, err = connection.Write(answer); err != nil {
			return err
		}
	}
}
