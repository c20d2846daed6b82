#!/usr/bin/perl
# SPDX-License-Identifier: GPL-2.0
# The settings of a suite and its verdict, for the command suites:
#	suites.pl list SETTINGS HOST:KERNEL FOLDER [TEST...]	what to run there, for the emulated host (scripts/suites)
#	suites.pl judge SETTINGS HOST:KERNEL [TEST...] <ROWS	the table, in TAP
# SETTINGS is selftests/diff/suites; its head says what its lines are.
use strict;
use warnings;

my ($command, $settings, $where, @names) = @ARGV;
my $folder = $command eq 'list' ? shift @names : '';
my %only = map { $_ => 1 } @names;
my (%run, %out, @expected);

sub fits {
	my ($pattern, $text) = @_;
	$pattern = quotemeta $pattern;
	$pattern =~ s/\\\*/.*/g;
	return $text =~ /^$pattern$/;
}

open my $in, '<', $settings or die "$settings: $!\n";
while (<$in>) {
	next if /^\s*(#|$)/;
	my ($kind, $host, $test, @rest) = map { s/^\s+|\s+$//gr } split /\|/;
	die "$settings:$.: not so\n" if !defined $test || @rest != {run => 2, out => 1, expect => 3}->{$kind};
	next if !fits($host, $where);
	$run{$test} = \@rest if $kind eq 'run';
	$out{$test} = $rest[0] if $kind eq 'out';
	push @expected, {test => $test, stock => $rest[0], lodge => $rest[1], why => $rest[2], line => $., used => 0}
		if $kind eq 'expect';
}
close $in;

if ($command eq 'list') {
	my @tests = grep { %only ? $only{$_} : !$out{$_} } map { s,.*/,,r } grep { !/SHA256SUMS/ } glob "$folder/*";
	delete @only{@tests};
	die "no test by the name of ", join(', ', sort keys %only), "\n" if %only;
	for my $side ('stock', 'lodge') {
		for my $test (@tests) {
			my ($seconds, $words) = @{$run{$test} // ['', '']};
			printf "%s %d %s %s\n", $side, $seconds || 120, $test, $words;
		}
	}
	exit;
}

# The rows: of a test that was run again the last one counts.
my (%row, %seen);
while (<STDIN>) {
	$row{$2}{$1} = [$3, $4 // ''] if /^row (stock|lodge) (\S+) (pass|skip|fail)(?: (.*))?$/;
}
my ($n, $failed, $skipped, %count) = (0, 0, 0);

sub say_row {
	my ($ok, $test, $pair, $directive, @reasons) = @_;
	$n++;
	$failed++ if !$ok;
	$skipped++ if $directive;
	printf "%s %d - %-40s %-11s %s\n", $ok ? 'ok' : 'not ok', $n, $test, $pair, $directive;
	print "#\t$_\n" for grep { !/: $/ } @reasons;
}

print "TAP version 13\n";
for my $test (sort keys %row) {
	my ($stock, $lodge) = map { $row{$test}{$_} // ['fail', 'no row'] } 'stock', 'lodge';
	my $pair = "$stock->[0] : $lodge->[0]";
	my @reasons = $stock->[1] eq $lodge->[1] ? ("both: $stock->[1]") : ("stock: $stock->[1]", "Lodge: $lodge->[1]");
	my ($row) = grep { fits($_->{test}, $test) && $_->{stock} eq $stock->[0] && $_->{lodge} eq $lodge->[0] } @expected;

	$count{$pair}++;
	$row->{used} = 1 if $row;
	if ($row) {
		say_row(1, $test, $pair, "# SKIP $row->{why}", @reasons);
	} elsif ($lodge->[0] eq 'pass') {
		say_row(1, $test, $pair, '', @reasons);
	} elsif ($stock->[0] ne 'pass' && ($lodge->[0] eq 'skip' || $stock->[0] eq 'fail')) {
		say_row(1, $test, $pair, '# SKIP says nothing', @reasons);
	} else {
		say_row(0, $test, $pair, '', @reasons);
	}
}
for my $test (sort keys %out) {
	say_row(1, $test, '-', "# SKIP $out{$test}") if !%only;
}
for my $row (grep { !%only && !$_->{used} } @expected) {
	say_row(0, $row->{test}, "$row->{stock} : $row->{lodge}", '', "line $row->{line} of the settings: it did not come");
}
print "1..$n\n";
print "# $_: $count{$_}\n" for sort keys %count;
printf "%d passed, %d failed, %d skipped\n", $n - $failed - $skipped, $failed, $skipped;
exit($failed || !$n ? 1 : 0);
