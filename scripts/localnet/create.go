package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"sn3/chain"
	"sn3/chain/local/state"
	"sn3/chain/local/wallet"
	"sn3/internal/gossip"
	"sn3/internal/preset"
	"sn3/internal/replica"
	"sn3/internal/spec"
	"sn3/model"
	"sn3/model/cpu"
	"sn3/scripts/localnet/netdir"
	"sn3/storage"
)

// config is what `up` was asked for.
type config struct {
	dir                         netdir.Dir
	windows, miners, validators int
	model, text, gap            string
	data                        *packed        // DATA; nil: text is packed
	preset                      *preset.Preset // that model names
	seed                        uint64
	noP2P                       bool
	set                         map[string]bool // which flags were given
	out                         voice
}

// blockTime is the block time of new networks.
const blockTime = 250 * time.Millisecond

// corpusDir is the folder the text comes from: --text, or the Go standard library's source.
func corpusDir(ctx context.Context, text string) (string, error) {
	if text != "" {
		return text, nil
	}
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	root := strings.TrimSpace(string(out))
	if err != nil || root == "" {
		return "", errors.New("no go command to find text with: give a folder of text, TEXT=<folder>")
	}
	src := filepath.Join(root, "src")
	if _, err := os.Stat(src); err != nil {
		return "", fmt.Errorf("the Go installation has no source to train on: %w; give a folder of text, TEXT=<folder>", err)
	}
	return src, nil
}

// measure trains the preset's model for about two seconds on one core, with the kernels that the nodes will be told to use.
func measure(ctx context.Context, r *chain.Run) (tokensPerSecond float64, err error) {
	c := replica.ModelConfig(r)
	t, err := cpu.New(os.Getenv("SN3_KERNELS")).NewTrainer(c, replica.Optimizer(r), model.Options{})
	if err != nil {
		return 0, err
	}
	l, err := model.NewLayout(c)
	if err != nil {
		return 0, err
	}
	w := model.NewFlat(l)
	w.Init(1)
	if err := t.Reset(ctx, w); err != nil {
		return 0, err
	}
	b := constant{model.Batch{B: r.Train.Batch, T: c.Seq, X: make([]int32, r.Train.Batch*c.Seq), Y: make([]int32, r.Train.Batch*c.Seq)}}
	for i := range b.b.X {
		b.b.X[i], b.b.Y[i] = int32(i*7%c.Vocab), int32(i*11%c.Vocab)
	}
	begin, tokens := time.Now(), 0
	for time.Since(begin) < 2*time.Second {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		rep, err := t.Train(ctx, b, model.Budget{Steps: 1})
		if err != nil {
			return 0, err
		}
		tokens += rep.Tokens
	}
	return float64(tokens) / time.Since(begin).Seconds(), nil
}

type constant struct{ b model.Batch }

func (c constant) Next(context.Context) (model.Batch, error) { return c.b, nil }

// evalSet is how many held-out samples validators measure every model on.
const evalSet = 128

// schedule turns the machine's speed into blocks: enough for all validators to score and all miners to train on the cores
// there are, each of them on one, at least what the phases need, at most maxWindow. A record takes about two blocks to be
// final, the beacon one.
func schedule(r *chain.Run, speed float64, cores, miners, validators int) chain.ScheduleParams {
	const (
		maxWindow = 60 * time.Second
		record    = 3
		forward   = 3   // a forward pass is this much faster than a training step
		perNode   = 0.1 // seconds of a core to fetch, decode, aggregate and save, each node each window; measured with 20 miners
	)
	T := float64(r.Model.Seq)
	trainers, judges := speed*float64(min(cores, miners)), forward*speed*float64(min(cores, validators))
	train := float64(miners*r.Train.InnerSteps*r.Train.Batch) * T / trainers
	sequences := miners*(r.Score.HeldOut+3*r.Score.Own) + r.Score.HeldOut + r.Score.Own
	score := float64(validators*sequences) * T / judges
	eval := float64(validators*evalSet) * T / judges
	apply := perNode * float64(miners+validators) / float64(cores)
	blocks := func(seconds float64) chain.Block { return chain.Block(math.Ceil(seconds / blockTime.Seconds())) }
	p := chain.ScheduleParams{First: 28, Lead: 2, Deadline: record}
	p.ScoreBy = p.Deadline + 1 + max(4, blocks(1.2*score)+1) + record
	p.Select = p.ScoreBy + 1
	p.Apply = p.Select + max(2, blocks(apply))
	p.Length = max(p.Apply+2, blocks(1.3*(train+score+eval+apply)))
	limit := max(p.Apply+2, chain.Block(maxWindow/blockTime))
	p.Length = min(p.Length, limit)
	return p
}

// hurried says so if a window is too short for all steps of all miners.
func hurried(r *chain.Run, speed float64, cores, miners int) string {
	window := float64(r.Schedule.Length) * blockTime.Seconds()
	each := speed * float64(min(cores, miners)) / float64(miners) * window / float64(r.Train.Batch*r.Model.Seq) // steps of a miner, if it did nothing else
	if each >= float64(r.Train.InnerSteps) {
		return ""
	}
	return fmt.Sprintf("a window of %.0f s is too short for the %d steps of each miner, about %.0f will be done: a smaller MODEL, train.batch or number of MINERS suits this "+
		"machine better", window, r.Train.InnerSteps, math.Floor(each))
}

// plannedWindows are five minutes' worth, between 24 and 67.
func plannedWindows(p chain.ScheduleParams) int {
	per := time.Duration(p.Length) * blockTime
	return int(min(max(5*time.Minute/per, 24), 67))
}

// create makes the folder of a new network: keys, accounts, dataset, genesis. The dataset is uploaded when S3 runs.
func create(ctx context.Context, c config) (set netdir.Settings, src *source, err error) {
	if err := c.dir.Foreign(); err != nil {
		return set, nil, err
	}
	if c.data != nil {
		if err := c.data.verify(ctx, c.out); err != nil {
			return set, nil, err
		}
		src = &c.data.source
	}
	if err := c.dir.Begin(); err != nil {
		return set, nil, err
	}
	if src == nil {
		if src, err = textSource(ctx, c); err != nil {
			return set, nil, err
		}
	}
	run, err := c.preset.Run(c.windows)
	if err != nil {
		return set, nil, err
	}
	if err := src.enough(run, c.miners); err != nil {
		return set, nil, err
	}
	speed, err := measure(ctx, run)
	if err != nil {
		return set, nil, fmt.Errorf("measure this machine: %w", err)
	}
	run.Schedule = schedule(run, speed, runtime.NumCPU(), c.miners, c.validators)
	if c.windows < 0 {
		c.windows = plannedWindows(run.Schedule)
	}
	measured := run.Schedule
	if run, err = c.preset.Run(c.windows); err != nil {
		return set, nil, err
	}
	run.Schedule = measured
	set = netdir.Settings{Format: netdir.Format, Network: "local-" + randomHex(3), Model: c.model, Miners: c.miners, Validators: c.validators,
		Seed: c.seed, Text: c.text, Gap: c.gap, Windows: c.windows, Speed: speed, BlockTimeMS: blockTime.Milliseconds(), BytesPerToken: src.bytesPerToken()}
	if c.data != nil {
		set.Data, set.Dataset = c.data.dir, src.spec.Manifest.String()
	}
	c.out.say("text", "%s", src)
	c.out.say("speed", "%.0f tokens/s on one core, %d cores", speed, runtime.NumCPU())
	if note := hurried(run, speed, runtime.NumCPU(), c.miners); note != "" {
		c.out.say("note", "%s", note)
	}
	locator, err := storage.Local("data")
	if err != nil {
		return set, nil, err
	}
	run.Network, run.Seed, run.Tempo = set.Network, c.seed, 2*run.Schedule.Length
	run.Tokenizer, run.Dataset = src.manifest.Provenance.Tokenizer, src.spec
	run.Dataset.Locator = locator.Encode()
	if err := errors.Join(run.Validate(), spec.Check(run)); err != nil {
		return set, nil, err
	}
	g := &state.Genesis{Network: set.Network, Run: run.Encode(), BlockTimeMS: set.BlockTimeMS, Rules: state.NewestRules, Params: state.DefaultParams()}
	if err := populate(c, &set, g); err != nil {
		return set, nil, err
	}
	raw, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return set, nil, err
	}
	if err := os.WriteFile(c.dir.Path("genesis.json"), raw, 0o644); err != nil {
		return set, nil, fmt.Errorf("write genesis: %w", err)
	}
	return set, src, nil
}

// populate makes keys, buckets and seats of all members, an idle seat and the faucet.
func populate(c config, set *netdir.Settings, g *state.Genesis) error {
	var accounts []storage.Account
	account := func(name, file string) error {
		secret := randomHex(20)
		accounts = append(accounts, storage.Account{Bucket: name, AccessKey: "key-" + name, Secret: secret})
		return os.WriteFile(file, []byte(secret+"\n"), 0o600)
	}
	add := func(name, role string, stake chain.Amount) error {
		if err := os.MkdirAll(c.dir.NodePath(name), 0o700); err != nil {
			return fmt.Errorf("make node folder: %w", err)
		}
		n, err := newKey(c.dir.NodePath(name), name, role)
		if err != nil {
			return err
		}
		set.Nodes = append(set.Nodes, n)
		g.Seats = append(g.Seats, state.Seat{Hotkey: n.Hotkey, Stake: stake, Permit: stake > 0})
		return account(name, c.dir.NodePath(name, "s3.secret"))
	}
	for i := range c.validators { // 3:2 for two
		stake := chain.Amount(1000*(c.validators+1-i)) * chain.RaoPerCoin
		if err := add(fmt.Sprintf("validator-%d", i+1), "validator", stake); err != nil {
			return err
		}
	}
	for i := range c.miners {
		if err := add(fmt.Sprintf("miner-%d", i+1), "miner", 0); err != nil {
			return err
		}
	}
	if err := add("idle-1", "idle", 0); err != nil {
		return err
	}
	if err := os.MkdirAll(c.dir.Path("faucet"), 0o700); err != nil {
		return fmt.Errorf("make faucet: %w", err)
	}
	f, err := newKey(c.dir.Path("faucet"), "faucet", "faucet")
	if err != nil {
		return err
	}
	g.Owner = chain.Coldkey(f.Hotkey)
	g.Accounts = append(g.Accounts, state.Account{Coldkey: g.Owner, Balance: 1_000_000 * chain.RaoPerCoin})
	if err := account("data", c.dir.Path("data.secret")); err != nil {
		return err
	}
	return errors.Join(storage.WriteAccounts(c.dir.Path("accounts.json"), accounts), os.WriteFile(c.dir.Path("s3-root.secret"), []byte(randomHex(20)+"\n"), 0o600))
}

// newKey makes key.json and passphrase in a folder. Light scrypt: the standard one takes 0.3 GiB per process.
func newKey(dir, name, role string) (netdir.Node, error) {
	pass := randomHex(16)
	path, hotkey, err := wallet.New(dir, "key", pass, true)
	if err != nil {
		return netdir.Node{}, err
	}
	if err := os.WriteFile(filepath.Join(dir, "passphrase"), []byte(pass+"\n"), 0o600); err != nil {
		return netdir.Node{}, fmt.Errorf("write passphrase: %w", err)
	}
	n := netdir.Node{Name: name, Role: role, Hotkey: hotkey}
	if role != "validator" && role != "miner" {
		return n, nil
	}
	key, err := wallet.Open(path, pass)
	if err != nil {
		return n, err
	}
	if n.P2P, err = netdir.FreePort(0); err != nil {
		return n, err
	}
	n.Peer, err = gossip.PeerAddr(key, fmt.Sprintf("127.0.0.1:%d", n.P2P))
	return n, err
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // crypto/rand never fails since Go 1.24
	return hex.EncodeToString(b)
}
